"""Results that are older than the program or the parameters beside them, by the hashes that DVC itself wrote."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from captchabench.comparison.staleness import behind
from captchabench.config import MatrixParams

PIPELINE = """
stages:
  train:
    matrix: {dataset: [vtu], model: [crnn], fold: [0]}
    cmd: mkdir -p data && echo > data/weights
    deps: [captchabench/models/crnn.py, captchabench/training]
    params: [models.crnn, training.seed]
    outs: [data/weights]
  score:
    cmd: echo > data/scores
    deps: [data/weights, stages/score.py]
    outs: [data/scores]
"""
PARAMS = "models: {crnn: {steps: 5}, hog_svc: {cosines: 1}}\ntraining: {seed: 0}\n"
MATRIX = MatrixParams(("vtu",), ("crnn",), (), (0,))


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with the names of the real one, after `dvc repro`."""
    folder = tmp_path_factory.mktemp("stale")
    for name in ("captchabench/models/crnn.py", "captchabench/training/a.py", "captchabench/training/deep/b.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "stages").mkdir()
    (folder / "stages/score.py").write_text("score")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text(PARAMS)
    for words in (("init", "-q", "--no-scm"), ("repro", "-q")):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ()),
        ({"captchabench/models/crnn.py": "faster"}, ("captchabench/models/crnn.py",)),
        ({"captchabench/training/deep/b.py": "better"}, ("captchabench/training",)),
        ({"captchabench/training/new.py": "more"}, ("captchabench/training",)),
        ({"stages/score.py": "other"}, ("stages/score.py",)),
        ({"params.yaml": PARAMS.replace("steps: 5", "steps: 6")}, ("params.yaml: models.crnn",)),
        ({"params.yaml": PARAMS.replace("seed: 0", "seed: 1")}, ("params.yaml: training.seed",)),
        # Of a model that is not in the matrix, and a file that no stage names.
        ({"params.yaml": PARAMS.replace("cosines: 1", "cosines: 2"), "README.md": "new"}, ()),
    ],
)
def test_what_changed_since_the_results_were_made(
    run_once: Path, changes: dict[str, str], expected: tuple[str, ...]
) -> None:
    def files(paths: Sequence[str]) -> dict[str, bytes]:
        found = [path for name in paths for path in (run_once / name, *(run_once / name).rglob("*")) if path.is_file()]
        texts = {path.relative_to(run_once).as_posix(): path.read_bytes() for path in found}
        new = {name: text.encode() for name, text in changes.items() if name.startswith(tuple(paths))}
        return {**texts, **new}

    lock = yaml.safe_load((run_once / "dvc.lock").read_text())
    params = yaml.safe_load(changes.get("params.yaml", PARAMS))
    assert behind(lock, params, MATRIX, ["vtu-crnn-0"], files) == expected
