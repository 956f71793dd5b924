"""Retraining noise: the table, its key, and the trainings behind it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captchabench.studies.noise import NOISE, icc, noise_row, noise_table, parameters_digest

PARAMS: dict[str, Any] = {
    "data": {"source": "standin", "seed": 0},
    "normalize": {"height": 32, "max_rejected": 0.02},
    "datasets": {
        "vtu": {"images": 100, "models": {"crnn": {"training": {"steps": 3}}, "char_cnn": {"steps": 1}}},
        "numbers6": {"images": 50},
    },
    "matrix": {"datasets": ["numbers6", "vtu"]},
    "models": {"crnn": {"hidden": 96}, "char_cnn": {}},
    "training": {"seed": 0, "validation_share": 0.1},
    "folds": {"count": 5},
}


def changed(*keys: str, to: object) -> dict[str, Any]:
    """PARAMS with another value."""
    if not keys:
        raise ValueError("no key")
    copy: dict[str, Any] = {**PARAMS}
    inner = copy
    for key in keys[:-1]:
        inner[key] = {**inner[key]}
        inner = inner[key]
    inner[keys[-1]] = to
    return copy


@pytest.mark.parametrize(
    ("params", "is_reused"),
    [
        (PARAMS, True),
        (changed("training", "seed", to=7), True),
        (changed("training", "balance", to=0.5), True),
        (changed("normalize", "max_rejected", to=0.5), True),
        (changed("models", "char_cnn", to={"channels": 8}), True),
        (changed("datasets", "numbers6", "images", to=60), True),
        (changed("datasets", "vtu", "images", to=200), False),
        (changed("datasets", "vtu", "models", "crnn", to={}), False),
        (changed("models", "crnn", "hidden", to=128), False),
        (changed("normalize", "height", to=48), False),
        (changed("folds", "count", to=10), False),
    ],
)
def test_noise_is_reused_until_its_parameters_change(params: dict[str, Any], is_reused: bool) -> None:
    before = parameters_digest(PARAMS, "vtu", "crnn")
    assert (parameters_digest(params, "vtu", "crnn") == before) == is_reused


def test_a_union_depends_on_the_images_of_all_its_members() -> None:
    before = parameters_digest(PARAMS, "union", "crnn")
    assert parameters_digest(changed("datasets", "numbers6", "images", to=60), "union", "crnn") != before
    assert parameters_digest(changed("training", "balance", to=0.5), "union", "crnn") != before


def test_trainings_that_differ_on_single_images_alone_have_no_icc() -> None:
    """Independent errors: the spread of exact match is that of single images, and the intraclass correlation is 0."""
    rng = np.random.default_rng(0)
    right = rng.random((200, 400)) < 0.9
    row = noise_row(right, (~right).astype(np.int64), np.ones(400, np.int64))
    assert row["exact_sd"] == pytest.approx(np.sqrt(0.09 / 400), rel=0.15)
    assert icc(row) < 3e-4
    # Each training is better or worse by four points as a whole.
    shifted = rng.random((200, 400)) < 0.9 + 0.04 * rng.choice([-1, 1], (200, 1))
    moved = noise_row(shifted, (~shifted).astype(np.int64), np.ones(400, np.int64))
    assert icc(moved) == pytest.approx(0.04**2 / 0.09, rel=0.2)


def test_a_cell_without_errors_has_no_icc() -> None:
    row = noise_row(np.ones((3, 10), bool), np.zeros((3, 10), np.int64), np.full(10, 5))
    assert icc(row) == 0


def test_the_stage_retrains_what_is_missing_and_writes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from captchabench.config import load_params, read_yaml
    from stages import ingest, noise, normalize

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "data: {source: standin, downloads: d, seed: 0}\n"
        "normalize: {height: 32, width: 100, resize: stretch, clahe: false, max_rejected: 0.02}\n"
        "tiles: {source: standin, height: 96, width: 96, seed: 0}\n"
        "folds: {count: 2}\n"
        "datasets: {numbers6: {images: 40, difficulty: 1}}\n"
        "matrix: {datasets: [numbers6], models: [dummy], union: [], tiles: {datasets: [], models: []}, folds: [0]}\n"
        "training: {seed: 0, validation_share: 0.2}\n"
        "probe: {images: 10}\n"
        "models: {dummy: {}}\n"
    )
    ingest.main("numbers6")
    normalize.main("numbers6")
    noise.main()
    assert capsys.readouterr().out.count("retraining") == 5
    (row,) = NOISE.read().iter_rows(named=True)
    assert (row["dataset"], row["model"], row["trainings"]) == ("numbers6", "dummy", 5)
    assert row["parameters"] == parameters_digest(read_yaml(Path("params.yaml")), "numbers6", "dummy")
    assert row["n"] < 40 == load_params().datasets["numbers6"].images
    # A second run trains nothing.
    written = Path(NOISE.path).read_bytes()
    noise.main("numbers6", "dummy")
    assert "retraining" not in capsys.readouterr().out
    assert Path(NOISE.path).read_bytes() == written
    # A killed one continues.
    next(Path("data/noise").rglob("3.parquet")).unlink()
    noise.main()
    assert capsys.readouterr().out.count("retraining 4") == 1
    assert Path(NOISE.path).read_bytes() == written


def test_the_table_is_sorted() -> None:
    right = np.array([[True, False], [True, True]])
    row = noise_row(right, (~right).astype(np.int64), np.ones(2, np.int64))
    rows = [{"dataset": name, "model": "crnn", "parameters": "ab", **row} for name in ("vtu", "numbers6")]
    assert noise_table(rows)["dataset"].to_list() == ["numbers6", "vtu"]
