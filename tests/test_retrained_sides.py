"""The benchmark of retrained sides counts what it says, on made-up trainings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import retrained_sides
from captchabench.cells.cell import Cell
from captchabench.config import Params
from captchabench.networks.readings import Reading
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.shards import Samples, ShardInfo

pytestmark = pytest.mark.usefixtures("spared_garbage")

PARAMS: dict[str, Any] = {
    "data": {},
    "normalize": {},
    "folds": {},
    "datasets": {"numbers6": {"difficulty": 3, "models": {"cnn_transformer": {"training": {"steps": 90}}}}, "vtu": {}},
    "matrix": {"datasets": ["numbers6", "vtu"], "models": ["crnn", "cnn_transformer"], "union": [], "folds": [0]},
    "training": {},
    "models": {name: {"training": {"steps": 60}} for name in ("crnn", "cnn_transformer")},
}
N = 300


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """(cell, steps, seed) of each training. Its share of images read right varies by two points, and follows steps."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    monkeypatch.chdir(tmp_path)
    made = []

    def retrain(cell: Cell, params: Params, samples: Samples, unseen: Samples, seed: int, path: Path) -> None:
        steps = params.of_model(cell.model, cell.dataset)["training"]["steps"]
        made.append((str(cell), steps, seed))
        rng = np.random.default_rng([seed, len(str(cell)), steps])
        share = (0.9 if steps >= 60 else 0.4) + 0.02 * rng.standard_normal()
        texts = [label if rng.random() < share else "000000" for label in unseen.labels]
        path.parent.mkdir(parents=True, exist_ok=True)
        info = PredictionInfo.of(unseen.info, cell.model, cell.fold, 1)
        write_predictions(path, info, unseen, Reading(texts, np.full(N, 0.9, np.float32)), None)

    def samples_of(dataset: str, fold: int) -> tuple[Samples, Samples]:
        info = ShardInfo(dataset, "standin", 1, 2, 2, "0123456789", 6, 6)
        labels = np.array([f"{i + 1:06d}" for i in range(N)], object)
        ids = np.array([f"{i:08x}" for i in range(N)], object)
        pixels = np.zeros((N, 2, 2), np.uint8)
        unseen = Samples(info, ids, labels, np.full(N, fold, np.int8), np.full(N, dataset, object), pixels)
        return unseen, unseen

    monkeypatch.setattr(retrained_sides, "retrain", retrain)
    monkeypatch.setattr(retrained_sides, "_samples", samples_of)
    return made


def test_sides_of_one_program_and_a_model_that_is_cut(trained: list[tuple[str, int, int]], tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    retrained_sides.main(pairs=8, cut="crnn", folder=tmp_path / "kept", out=out)
    found = json.loads(out.read_text())
    # Two sides a pair, and the cut model once more; steps of datasets are cut as well.
    assert len(trained) == 8 * (4 * 2 + 2)
    assert {cell: sorted({steps for name, steps, _ in trained if name == cell}) for cell, _, _ in trained} == {
        "numbers6-crnn-0": [60, 180],
        "numbers6-cnn_transformer-0": [90],
        "vtu-crnn-0": [20, 60],
        "vtu-cnn_transformer-0": [60],
    }
    equal, cut = ([row for row in found["rows"] if row["new"] == name] for name in ("same program", "cut"))
    assert [row["pair"] for row in equal] == list(range(8))
    # Of numbers6 a third of the steps is still enough.
    assert all("vtu-crnn" in row["change"] for row in cut)
    assert all("vtu-crnn" not in row["change"] for row in equal)
    assert {name for row in cut for name in row["networks"]} >= {"vtu-crnn"}
    spread = {row["cell"]: row for row in found["cells"]}
    assert spread["vtu-crnn-0"]["trainings"] == 16
    assert 0.005 < spread["vtu-crnn-0"]["exact_sd"] < 0.05


def test_a_second_run_trains_what_is_missing(trained: list[tuple[str, int, int]], tmp_path: Path) -> None:
    for pairs in (2, 3):
        retrained_sides.main(pairs=pairs, cut="crnn", folder=tmp_path / "kept", out=tmp_path / "found.json")
    assert len(trained) == 3 * (4 * 2 + 2)
    assert len(set(trained)) == len(trained)
