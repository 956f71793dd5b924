"""dvc.yaml, params.yaml, the registries and the layers of the package agree."""

import ast
import graphlib
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import captchabench
from captchabench.cells.cell import expected_cells
from captchabench.cli.overlay import apply_overlay
from captchabench.config import build, load_params, read_yaml
from captchabench.datasets import DATASETS, UNION, stage_name
from captchabench.models import RECOGNISERS
from tests.imports import imports_of

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"]
RAW_PARAMS = read_yaml(ROOT / "params.yaml")
PARAMS = load_params(ROOT / "params.yaml")


def lookup(key: str) -> Any:
    """The value of a dotted key of params.yaml; KeyError if there is none."""
    value: Any = RAW_PARAMS
    for part in key.split("."):
        value = value[part]
    return value


def expand(stage: dict[str, Any]) -> list[dict[str, str]]:
    """The items of a stage's matrix, [{}] without one."""
    axes = {}
    for axis, values in stage.get("matrix", {}).items():
        axes[axis] = lookup(values[2:-1]) if isinstance(values, str) else values
    return [dict(zip(axes, map(str, combination), strict=True)) for combination in itertools.product(*axes.values())]


def fill(template: str, item: dict[str, str]) -> str:
    """A template with its ${...} replaced, as DVC does it."""

    def value(match: re.Match[str]) -> str:
        key = match[1]
        return item[key.removeprefix("item.")] if key.startswith("item.") else str(lookup(key))

    return re.sub(r"\$\{([^}]+)\}", value, template)


def outs_of(stage: dict[str, Any], item: dict[str, str]) -> list[str]:
    entries = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [fill(e if isinstance(e, str) else next(iter(e)), item) for e in entries]


CELLS = [
    pytest.param(stage, item, id="-".join([name, *item.values()]))
    for name, stage in STAGES.items()
    for item in expand(stage)
]


def test_params_name_exactly_the_registered_models() -> None:
    assert sorted(RAW_PARAMS["models"]) == RECOGNISERS.names()
    command = re.compile(r"dvc repro (?:-f -s |--force )?([a-z]\w*)\b(?![@{])")
    paths = [path for folder in ("captchabench", "stages", "flows") for path in (ROOT / folder).rglob("*.py")]
    named = {match[1] for path in paths for match in command.finditer(path.read_text(encoding="utf-8"))}
    assert named <= set(STAGES)
    assert {"score", "calibration", "normalize"} <= named
    made = {f"{name}@{'-'.join(item.values())}" for name, stage in STAGES.items() for item in expand(stage)}
    for dataset in PARAMS.matrix.all_datasets:
        assert {stage_name("ingest", dataset), stage_name("normalize", dataset)} <= made
    for cell in expected_cells(PARAMS.matrix):
        for stage in ("train", "predict"):
            assert cell.command(stage).removeprefix("`dvc repro ").removesuffix("`") in made


def test_every_entry_has_the_name_of_its_file() -> None:
    for name in DATASETS.names():
        assert DATASETS[name].key == name
    for name in RECOGNISERS.names():
        assert RECOGNISERS[name].name == name


def test_folds_of_the_matrix_exist() -> None:
    assert max(PARAMS.matrix.folds) < PARAMS.folds.count


@pytest.mark.parametrize(("stage", "item"), CELLS)
def test_dependencies_exist_or_are_made(stage: dict[str, Any], item: dict[str, str]) -> None:
    made = [out for other in STAGES.values() for each in expand(other) for out in outs_of(other, each)]
    for dependency in (fill(d, item) for d in stage["deps"]):
        inside = any(out == dependency or out.startswith(f"{dependency}/") for out in made)
        assert inside or (ROOT / dependency).exists(), dependency


@pytest.mark.parametrize(("stage", "item"), CELLS)
def test_tracked_params_exist(stage: dict[str, Any], item: dict[str, str]) -> None:
    for key in stage.get("params", []):
        lookup(fill(key, item))


def test_every_section_of_params_is_tracked() -> None:
    tracked = {key.split(".")[0] for stage in STAGES.values() for key in stage.get("params", [])}
    assert tracked == set(RAW_PARAMS)


def test_every_stage_has_its_file_and_depends_on_it() -> None:
    used = set()
    for stage in STAGES.values():
        module = re.match(r"python -m (stages\.\w+)", stage["cmd"])
        assert module, stage["cmd"]
        path = f"{module[1].replace('.', '/')}.py"
        assert path in stage["deps"]
        used.add(path)
    files = {f"stages/{p.name}" for p in (ROOT / "stages").glob("*.py")}
    others = ("__init__", "images_needed", "leftovers", "noise", "scratch")
    assert files - used == {f"stages/{name}.py" for name in others}


def test_no_two_stages_make_the_same_file() -> None:
    made = [out for stage in STAGES.values() for item in expand(stage) for out in outs_of(stage, item)]
    assert len(made) == len(set(made))


OVERLAYS = pytest.mark.parametrize("overlay_name", ["params.full.yaml", "params.cpu.yaml"])


@OVERLAYS
def test_an_overlay_names_parameters_that_exist(overlay_name: str) -> None:
    def walk(overlay: Any, under: Any, where: str) -> None:
        for key, value in overlay.items():
            if key == "models" and where.startswith("datasets."):
                assert set(value) <= set(RAW_PARAMS["models"]), f"{where}{key}"
                continue
            assert where.startswith("models.") or key in under, f"{where}{key}"
            if isinstance(value, dict) and isinstance(under.get(key), dict):
                walk(value, under[key], f"{where}{key}.")

    walk(read_yaml(ROOT / overlay_name), RAW_PARAMS, "")


@OVERLAYS
def test_an_overlay_gives_every_cell_valid_parameters(overlay_name: str, tmp_path: Path) -> None:
    changed = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", changed)
    apply_overlay(ROOT / overlay_name, changed)
    params = load_params(changed)
    for dataset in (*params.matrix.all_datasets, UNION):
        for model in params.matrix.models:
            where = f"{dataset}, {model}"
            build(RECOGNISERS[model].config_class, params.of_model(model, dataset), where)


# A package may import those in layers before its own. `comparison/revisions.py` alone may use DVC.
LAYERS = [
    {"errors", "git", "orphans", "pool", "progress", "registry", "storage", "streams", "user"},
    {"alphabet", "config"},
    {"datasets"},
    {"samples"},
    {"sources", "normalize"},
    {"audit", "cells", "labels"},
    {"networks"},
    {"training"},
    {"models", "predictions"},
    {"scoring"},
    {"studies"},
    {"comparison"},
    {"inference"},
    {"report"},
    {"demo", "doctor", "own"},
    {"cli"},
    {"__main__"},
]


def test_the_architecture_guide_has_the_same_layers() -> None:
    described: list[set[str]] = []
    guide = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for layer, names in re.findall(r"^\| (\d*) ?\| (`[\w/`, ]+`) \|", guide, re.MULTILINE):
        if layer:
            described.append(set())
        described[-1] |= set(re.findall(r"\w+", names))
    assert described == LAYERS


def test_licences_of_fonts_icons_weights_and_scripts_are_stated() -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    brought = r"^((?:font|fonticon|efficientnet)[\w-]*|fastapi-offline|vl-convert-python)==([\w.]+)"
    packages = re.findall(brought, locked, re.MULTILINE)
    assert len(packages) >= 10
    stated = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    assert [f"{name} {version}" for name, version in packages if f"`{name}` {version} |" not in stated] == []


def test_make_has_every_target_that_the_makefile_lists() -> None:
    listed = re.findall(r"^# make ([\w-]+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"repro", "test", "check", "result"} <= set(listed)
    done = subprocess.run(["make", "--dry-run", *listed], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_citation_is_of_this_version() -> None:
    assert read_yaml(ROOT / "CITATION.cff")["version"] == captchabench.__version__


@pytest.mark.parametrize("guide", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_documents_name_modules_that_exist(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert (ROOT / name).is_file() or (ROOT / "captchabench" / name).is_file(), name


def names_imported(path: Path) -> set[str]:
    result = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            result |= {f"{node.module}.{alias.name}" for alias in node.names}
    return result


MODULES = sorted((ROOT / "captchabench").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_down_the_layers(path: Path) -> None:
    part = path.relative_to(ROOT / "captchabench").parts[0].removesuffix(".py")
    imported = names_imported(path)
    tops = {name.split(".")[0] for name in imported}
    assert not tops & {"prefect", "stages", "flows"}
    if path.name != "revisions.py":
        assert "dvc" not in tops
    if part == "__init__":
        return
    own = next(i for i, layer in enumerate(LAYERS) if part in layer)
    for name in imported:
        words = name.split(".")
        if words[0] == "captchabench" and len(words) > 1 and words[1] != "__version__":
            below = words[1] == part or any(words[1] in layer for layer in LAYERS[:own])
            assert below or own == 0, f"{part} imports {name}"


def test_there_are_no_import_cycles() -> None:
    # A package is loaded with each of its modules, so its imports of them are no cycle.
    packages = {path: {folder / "__init__.py" for folder in path.parents} for path in MODULES}
    graph = {path: imports_of(path) & set(MODULES) - packages[path] for path in MODULES}
    # Raises CycleError, which lists the cycle.
    graphlib.TopologicalSorter(graph).prepare()


# Stages that train a model or read with one.
NETWORKS = {"train", "predict", "probe", "latency", "noise", "images_needed"}


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_needs_no_dvc_prefect_polars_or_editdistance() -> None:
    run_python(
        "import sys\n"
        "for name in ('dvc', 'prefect', 'polars', 'editdistance', 'altair', 'ruamel', 'onnx', 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "import captchabench.training.engine, captchabench.samples.shards, captchabench.models as m\n"
        "for name in m.RECOGNISERS.names(): m.RECOGNISERS[name]\n"
    )


@pytest.mark.parametrize("stage", sorted({p.stem for p in (ROOT / "stages").glob("[a-z]*.py")} - NETWORKS))
def test_stages_without_networks_do_not_import_torch(stage: str) -> None:
    run_python(f"import sys, stages.{stage}\nassert 'torch' not in sys.modules and 'timm' not in sys.modules")


def test_hog_svc_does_not_import_torch() -> None:
    run_python(
        "import sys, stages.train, stages.predict, stages.probe, stages.latency, captchabench.models as m\n"
        "import captchabench; captchabench.load_recogniser\n"
        "m.RECOGNISERS['hog_svc']\n"
        "assert 'torch' not in sys.modules"
    )


def test_hog_svc_reads_without_the_libraries_for_training() -> None:
    run_python(
        "import sys, stages.predict, captchabench.models as m\n"
        "m.RECOGNISERS['hog_svc']\n"
        "assert not {'sklearn', 'scipy.optimize', 'scipy.stats', 'pandas', 'polars'} & sys.modules.keys()"
    )


@pytest.mark.parametrize("stage", ["calibration", "leaderboard", "probes", "score", "suspects"])
def test_tables_need_no_libraries_of_statistics(stage: str) -> None:
    run_python(f"import sys, stages.{stage}\nassert not {{'scipy', 'statsmodels', 'pandas'}} & sys.modules.keys()")


def test_a_stage_does_not_import_pandas_with_the_first_array() -> None:
    run_python(
        "import sys, stages\n"
        "sys.argv = ['a stage']\n"
        "def main():\n"
        "    import polars, pyarrow\n"
        "    assert polars.DataFrame(pyarrow.table({'a': pyarrow.array([1, 2])})).height == 2\n"
        "    assert 'pandas' not in sys.modules\n"
        "stages.run(main)\n"
    )


def test_only_stages_that_need_pandas_can_import_it() -> None:
    run_python(
        "import sys, stages\n"
        "sys.argv = ['a stage']\n"
        "def main():\n"
        "    from statsmodels.stats.contingency_tables import mcnemar\n"
        "stages.run(main, pandas=True)\n"
    )
    run_python(
        "import sys, stages\n"
        "sys.argv = ['a stage']\n"
        "def main():\n"
        "    try:\n"
        "        import pandas\n"
        "    except ModuleNotFoundError as error:\n"
        "        assert 'without pandas' in str(error)\n"
        "stages.run(main)\n"
    )


def test_a_stage_computes_on_one_thread_in_any_environment() -> None:
    run_python(
        "import os\n"
        "os.environ['OPENBLAS_NUM_THREADS'] = '2'\n"
        "import stages, numpy, threadpoolctl\n"
        "numpy.ones((9, 9)) @ numpy.ones((9, 9))\n"
        "assert {pool['num_threads'] for pool in threadpoolctl.threadpool_info()} == {1}\n"
    )


def test_commands_start_without_torch() -> None:
    run_python(
        "import sys, captchabench.cli.app\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'scipy.stats'} & sys.modules.keys()"
    )
