"""The dependencies of each stage in dvc.yaml are the modules that it imports, except those that cannot change a result.

If a stage imported a file that is not among its dependencies, an edit of that file would leave stale results.
"""

import ast
import re
from typing import Any

import pytest

from captchabench.config import read_yaml
from stages import READ_WHOLE_FOLDERS
from stages.leftovers import OUTPUTS_BY_CELL, OUTPUTS_BY_DATASET
from tests.imports import ROOT, closure, is_within

STAGES: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"]

# Modules that cannot change a result: they report errors, show progress, distribute work, end processes, find modules
# by name, write and check files, and remove files that nothing reads.
WITHOUT_INFLUENCE = {
    "captchabench/__init__.py",
    "captchabench/errors.py",
    "captchabench/orphans.py",
    "captchabench/pool.py",
    "captchabench/progress.py",
    "captchabench/registry.py",
    "captchabench/storage",
    "stages/leftovers.py",
}
# Modules that a registry imports by name, without an import statement.
BY_NAME = {"item.model": "captchabench/models", "item.dataset": "captchabench/datasets"}


def code_of(stage: dict[str, Any]) -> list[str]:
    """The dependencies that are code, with templates such as ${item.model} as they stand in dvc.yaml."""
    return [d for d in stage["deps"] if d.startswith(("captchabench", "stages"))]


def files_of(dependency: str) -> set[str]:
    """The Python files of a dependency: itself, all files of the folder, or all that the template can name."""
    pattern = re.sub(r"\$\{item\.\w+\}", "*", dependency)
    paths = [path for path in ROOT.glob(pattern) if path.name not in ("__init__.py", "base.py") or "*" not in pattern]
    files = [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
    return {file.relative_to(ROOT).as_posix() for file in files}


def reached_by(stage: dict[str, Any]) -> set[str]:
    """The files that the stage's command imports, including those that a registry finds by name."""
    module = stage["cmd"].split()[2]
    start = {ROOT / f"{module.replace('.', '/')}.py"}
    for dependency in code_of(stage):
        if any(f"${{{item}}}" in dependency for item in BY_NAME) or dependency in BY_NAME.values():
            start |= {ROOT / file for file in files_of(dependency)}
    return closure(start, WITHOUT_INFLUENCE)


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_imports_is_among_its_dependencies(name: str) -> None:
    stage = STAGES[name]
    declared = set().union(*(files_of(dependency) for dependency in code_of(stage)))
    influential = reached_by(stage)
    # __init__.py with only a docstring.
    empty = {
        file
        for file in influential
        if file.endswith("__init__.py") and len(ast.parse((ROOT / file).read_text()).body) < 2
    }
    assert influential - empty <= declared


@pytest.mark.parametrize("name", STAGES)
def test_every_dependency_is_imported(name: str) -> None:
    stage = STAGES[name]
    reached = reached_by(stage)
    for dependency in code_of(stage):
        assert files_of(dependency) & reached, f"{name} imports nothing of {dependency}"
        assert not is_within(dependency, WITHOUT_INFLUENCE)


def test_modules_without_influence_exist() -> None:
    assert all((ROOT / module).exists() for module in WITHOUT_INFLUENCE)


def test_stages_that_depend_on_the_outputs_of_all_cells_remove_those_of_dropped_ones() -> None:
    folders = {folder for folder, *_ in (*OUTPUTS_BY_CELL, *OUTPUTS_BY_DATASET)}
    assert {name for name, stage in STAGES.items() if folders & set(stage["deps"])} == READ_WHOLE_FOLDERS
