"""The tables of reliability and of precision against coverage: pooling, rounding, and missing files."""

from collections.abc import Callable
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.scoring.calibration import expected_calibration_error
from captchabench.scoring.cells import score_predictions
from captchabench.storage.tables import read_table
from captchabench.studies.confidence import (
    CALIBRATION_SCHEMA,
    RISK,
    Confidences,
    calibration_table,
    coverage_at_target,
    read_confidences,
    risk_table,
)

Predict = Callable[..., Path]


def row(confidences: list[float], right: list[bool], model: str = "crnn") -> Confidences:
    return Confidences("numbers6", "standin", model, np.array(confidences, np.float32), np.array(right))


def test_folds_are_pooled_and_union_is_also_broken_down(predict: Predict) -> None:
    for fold in (0, 1):
        path = predict([("1", "1"), ("2", "3")], fold=fold, confidences=[0.9, 0.2 + fold / 2])
    predict([("1", "1"), ("2", "2")], dataset="union", members=["numbers6", "vtu"])
    cells = [Cell("union", "crnn", 0), Cell("numbers6", "crnn", 1), Cell("numbers6", "crnn", 0)]
    rows = {row.dataset: row for row in read_confidences(path.parent, cells)}
    assert list(rows) == ["numbers6", "union", "union/numbers6", "union/vtu"]
    assert rows["numbers6"].right.tolist() == [True, False, True, False]
    assert rows["numbers6"].confidences.tolist() == pytest.approx([0.9, 0.2, 0.9, 0.7])
    assert [len(rows[name].right) for name in ("union", "union/numbers6", "union/vtu")] == [2, 1, 1]


def test_bins_give_the_calibration_error_of_the_leaderboard(predict: Predict) -> None:
    rng = np.random.default_rng(0)
    cells = []
    for fold in (0, 1):
        sure = rng.random(200)
        pairs = [("1", "1" if hit else "2") for hit in rng.random(200) < sure**2]
        path = predict(pairs, fold=fold, confidences=sure.tolist())
        cells.append(score_predictions(path).parts["numbers6"].counts)
    table = calibration_table(read_confidences(path.parent, [Cell("numbers6", "crnn", fold) for fold in (0, 1)]))
    assert table.schema == CALIBRATION_SCHEMA
    gaps = (table["exact"] - table["confidence"]).abs().to_numpy()
    gap = float(np.average(gaps, weights=table["n"].to_numpy()))
    assert gap == pytest.approx(expected_calibration_error(reduce(add, cells).reliability), abs=1e-6)
    assert gap > 0.1


def test_empty_bins_are_left_out() -> None:
    table = calibration_table([row([0.5, 0.5, 1.0], [True, False, True])])
    assert table.drop("dataset", "source", "model").rows() == [
        (0.466667, 0.533333, 2, 0.5, 0.5),
        (0.933333, 1.0, 1, 1.0, 1.0),
    ]


def test_no_precision_reaches_the_target_by_rounding() -> None:
    # 1,980,000 of 2,000,001 are 0.9899995.
    n, wrong = 2_000_001, 20_001
    sure = np.ones(n, np.float32)
    right = np.arange(n) >= wrong
    table = risk_table([Confidences("numbers6", "standin", "crnn", sure, right)])
    assert round(table["precision"][0], 6) == 0.989999
    assert coverage_at_target(table) == {("numbers6", "crnn"): 0.0}


def test_coverage_at_99_percent_by_model(tmp_path: Path) -> None:
    rows = [
        row([0.9] * 150 + [0.1] * 50, [True] * 150 + [False] * 50, "careful"),
        row([0.9] * 200, [True, False] * 100, "hopeless"),
        row([0.9] * 200, [True] * 200, "perfect"),
    ]
    table = risk_table(rows)
    path = tmp_path / "risk_coverage.csv"
    table.write_csv(path)
    read = read_table(path, RISK.schema, RISK.stage)
    assert read.equals(table)
    assert read.schema == RISK.schema
    expected = {"careful": 0.75, "hopeless": 0.0, "perfect": 1.0}
    assert coverage_at_target(read) == {("numbers6", model): share for model, share in expected.items()}


def test_thresholds_that_differ_after_the_sixth_decimal_survive_the_disk(tmp_path: Path) -> None:
    sure = np.nextafter(np.float32(1), np.float32(0))
    table = risk_table([row([1.0, float(sure), float(np.nextafter(sure, np.float32(0)))], [True] * 3)])
    table.write_csv(tmp_path / "risk_coverage.csv")
    thresholds = read_table(tmp_path / "risk_coverage.csv", RISK.schema, RISK.stage)["threshold"].to_numpy()
    assert thresholds.dtype == np.float32
    assert thresholds[1] == sure
    assert len(set(thresholds.tolist())) == 3


def test_a_missing_or_foreign_file_names_the_command(predict: Predict, tmp_path: Path) -> None:
    folder = predict([("1", "1")]).parent
    with pytest.raises(InputError, match="run `dvc repro predict@numbers6-crnn-1`"):
        read_confidences(folder, [Cell("numbers6", "crnn", 1)])
    (folder / "numbers6-crnn-0.parquet").rename(folder / "numbers6-crnn-1.parquet")
    with pytest.raises(InputError, match="holds another cell; run `dvc repro predict@numbers6-crnn-1`"):
        read_confidences(folder, [Cell("numbers6", "crnn", 1)])
    path = tmp_path / "risk_coverage.csv"
    for text in (None, "", "a,b\n1,2\n"):
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match="run `dvc repro calibration`"):
            read_table(path, RISK.schema, RISK.stage)
