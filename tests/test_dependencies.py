"""What a stage imports is among its dependencies in dvc.yaml, but for what cannot change a result.

An edit of a file that a stage imports, and that is not among its dependencies, would leave a stale result.
"""

import ast
import re
from typing import Any

import pytest

from captchabench.config import read_yaml
from tests.imports import ROOT, closure, is_within

STAGES: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"]

# Cannot change what a result is: they word errors, show progress, spread work, end processes, find a file by its name,
# write and check files as they are, and remove what nothing reads.
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
# What a registry imports by name, which no import statement shows.
BY_NAME = {"item.model": "captchabench/models", "item.dataset": "captchabench/datasets"}


def code_of(stage: dict[str, Any]) -> list[str]:
    """The dependencies that are code, a template's name of a model or dataset replaced by a pattern."""
    return [d for d in stage["deps"] if d.startswith(("captchabench", "stages"))]


def files_of(dependency: str) -> set[str]:
    """The Python files that a dependency stands for: itself, all in the folder, or each that the template can name."""
    pattern = re.sub(r"\$\{item\.\w+\}", "*", dependency)
    paths = [path for path in ROOT.glob(pattern) if path.name not in ("__init__.py", "base.py") or "*" not in pattern]
    nested = [inside for path in paths for inside in (path.rglob("*.py") if path.is_dir() else [path])]
    return {path.relative_to(ROOT).as_posix() for path in nested}


def reached_by(stage: dict[str, Any]) -> set[str]:
    """The files that the stage's command imports, those among them that a registry finds by name."""
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
    # A package's own file that holds nothing but its docstring.
    empty = {
        file
        for file in influential
        if file.endswith("__init__.py") and len(ast.parse((ROOT / file).read_text()).body) < 2
    }
    assert influential - empty <= declared


@pytest.mark.parametrize("name", STAGES)
def test_no_dependency_is_never_imported(name: str) -> None:
    stage = STAGES[name]
    reached = reached_by(stage)
    for dependency in code_of(stage):
        assert files_of(dependency) & reached, f"{name} imports nothing of {dependency}"
        assert not is_within(dependency, WITHOUT_INFLUENCE)


def test_what_has_no_influence_exists() -> None:
    assert all((ROOT / place).exists() for place in WITHOUT_INFLUENCE)
