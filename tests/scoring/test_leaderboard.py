"""From cells to tables: pooling, missing cells, and cells that disagree."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from statsmodels.stats.proportion import proportion_confint

from captchabench.cells.cell import Cell, expected_cells
from captchabench.config import MatrixParams, TileCells
from captchabench.errors import InputError
from captchabench.scoring import leaderboard as board_module
from captchabench.scoring.cells import ScoredCell, read_cell, score_predictions, write_cell
from captchabench.scoring.intervals import wilson
from captchabench.scoring.leaderboard import (
    SCHEMA,
    Copies,
    Timing,
    confusions,
    leaderboard,
    read_cells,
    read_leaderboard,
    read_timing,
    summary,
    write_leaderboard,
)

Predict = Callable[..., Path]
TIMING = Timing(train_seconds=2.0, images=10, predict_seconds=0.5, device="cpu", threads=4)


def timed(cells: list[ScoredCell], timing: Timing = TIMING) -> pl.DataFrame:
    return leaderboard(cells, {cell.cell: timing for cell in cells}, covered(cells))


def covered(cells: list[ScoredCell]) -> dict[tuple[str, str], float]:
    return {(name, cell.model): 0.25 for cell in cells for name in cell.parts}


def test_expected_cells_are_the_matrix_and_union() -> None:
    matrix = MatrixParams(("b", "a"), ("n", "m"), ("m",), (1, 0))
    cells = expected_cells(matrix)
    assert cells == sorted(cells)
    assert len(cells) == 2 * 2 * 2 + 2
    assert Cell("union", "m", 1) in cells
    assert Cell("union", "n", 1) not in cells


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (MatrixParams((), ("m",), (), (0,)), "matrix.datasets: is empty"),
        (MatrixParams((), (), (), (0,), TileCells(("grid",), ())), "matrix.datasets: is empty"),
        (MatrixParams((), (), ("m",), (0,), TileCells(("grid",), ("m",))), "matrix.datasets: is empty"),
        (MatrixParams(("d",), (), (), (0,)), "matrix.models: is empty"),
        (MatrixParams(("d",), ("m",), (), ()), "matrix.folds: is empty"),
        (MatrixParams(("d",), ("m",), (), (0, 1, 0)), "matrix.folds: names 0 twice"),
    ],
)
def test_an_empty_or_repeating_matrix_is_refused(matrix: MatrixParams, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expected_cells(matrix)


def test_tiles_may_be_all_there_is() -> None:
    assert expected_cells(MatrixParams((), (), (), (0,), TileCells(("grid",), ("m",)))) == [Cell("grid", "m", 0)]


def test_a_union_needs_no_models_of_single_datasets() -> None:
    assert expected_cells(MatrixParams(("b", "a"), (), ("m",), (0,))) == [Cell("union", "m", 0)]


def test_folds_are_pooled_over_images(predict: Predict) -> None:
    first = score_predictions(predict([("12", "12"), ("34", "35"), ("56", "56")], fold=0))
    second = score_predictions(predict([("78", "")], fold=1))
    row = timed([second, first]).row(0, named=True)
    assert (row["n"], row["folds"], row["exact"]) == (4, 2, 0.5)
    assert (row["exact_lo"], row["exact_hi"]) == wilson(2, 4)
    assert row["cer"] == 3 / 8
    assert row["mean_edit_distance"] == 3 / 4
    assert row["exact_std"] == pytest.approx(statistics.stdev([2 / 3, 0]))
    assert row["ctc_loss"] is None


def test_one_fold_has_no_spread_and_a_loss_is_a_mean(predict: Predict) -> None:
    row = timed([score_predictions(predict([("1", "1"), ("2", "2")], losses=[1, 2]))]).row(0, named=True)
    assert row["exact_std"] is None
    assert row["ctc_loss"] == 1.5


def test_training_time_is_a_mean_and_speed_is_over_all(predict: Predict) -> None:
    cells = [score_predictions(predict([("1", "1")], fold=fold)) for fold in (0, 1)]
    timings = {
        Cell("numbers6", "crnn", 0): Timing(2, 10, 1, "cpu", 4),
        Cell("numbers6", "crnn", 1): Timing(4, 30, 1, "cpu", 4),
    }
    row = leaderboard(cells, timings, covered(cells)).row(0, named=True)
    assert (row["train_seconds"], row["images_per_second"], row["device"], row["threads"]) == (
        3,
        20,
        "cpu",
        4,
    )


def test_union_has_a_row_and_one_for_each_member(predict: Predict) -> None:
    union = predict([("12", "12"), ("34", "3")], dataset="union", members=["a", "b"])
    board = timed([score_predictions(union)])
    assert board.select("dataset", "n", "exact").rows() == [
        ("union", 2, 0.5),
        ("union/a", 1, 1.0),
        ("union/b", 1, 0.0),
    ]


def test_the_share_of_a_ceiling_is_that_of_the_dataset_read(predict: Predict) -> None:
    cells = [
        score_predictions(predict([("12", "12"), ("34", "3")], dataset="union", members=["a", "b"])),
        score_predictions(predict([("12", "12"), ("34", "34")], dataset="a")),
    ]
    timings = {cell.cell: TIMING for cell in cells}
    board = leaderboard(cells, timings, covered(cells), {"a": 0.8, "c": 0.5})
    assert board.select("dataset", "ceiling", "of_ceiling").rows() == [
        ("a", 0.8, 1.25),
        ("union", None, None),
        ("union/a", 0.8, 1.25),
        ("union/b", None, None),
    ]


def test_near_duplicates_count_as_one_image_in_intervals(predict: Predict) -> None:
    """Each image twice: the intervals are those of half as many images, by statsmodels and by the bootstrap."""
    once = [("12", "12")] * 30 + [("34", "3")] * 10
    single, double = (score_predictions(predict(once * times)) for times in (1, 2))
    copies = {("numbers6", 0): Copies(40, 40 * 2**2)}
    alone = timed([single]).row(0, named=True)
    row = leaderboard([double], {double.cell: TIMING}, covered([double]), copies=copies).row(0, named=True)
    assert (row["n"], row["groups"], alone["groups"]) == (80, 40, None)
    ends = [name for name in SCHEMA if name.endswith(("_lo", "_hi"))]
    assert [row[name] for name in ends] == [alone[name] for name in ends]
    assert (row["exact_lo"], row["exact_hi"]) == pytest.approx(proportion_confint(30, 40, method="wilson"), abs=1e-12)


def test_the_images_of_a_union_are_those_of_its_members(predict: Predict) -> None:
    union = score_predictions(
        predict([("12", "12"), ("34", "3"), ("34", "3")], dataset="union", members=["a", "b", "b"])
    )
    copies = {("a", 0): Copies(1, 1), ("b", 0): Copies(1, 4)}
    board = leaderboard([union], {union.cell: TIMING}, covered([union]), copies=copies)
    assert board.select("dataset", "n", "groups").rows() == [("union", 3, 2), ("union/a", 1, 1), ("union/b", 2, 1)]
    # 3 images in groups of 1 and 2 are worth 9 / 5.
    assert (board["exact_lo"][0], board["exact_hi"][0]) == wilson(1, 3, 1.8)
    # A fold that was not counted leaves the row without a number.
    partly = leaderboard([union], {union.cell: TIMING}, covered([union]), copies={("a", 0): Copies(1, 1)})
    assert partly["groups"].to_list() == [None, 1, None]


def test_models_must_be_scored_on_the_same_images(predict: Predict, tmp_path: Path) -> None:
    for model, ids in (("crnn", ["x"]), ("dummy", ["y"])):
        cell = score_predictions(predict([("1", "1")], model=model, ids=ids))
        write_cell(tmp_path / f"numbers6-{model}-0.json", cell)
    matrix = MatrixParams(("numbers6",), ("crnn", "dummy"), (), (0,))
    with pytest.raises(InputError, match="numbers6-crnn-0 and numbers6-dummy-0 were scored on different images"):
        read_cells(tmp_path, matrix)


def test_an_image_must_not_be_predicted_by_two_folds(predict: Predict, tmp_path: Path) -> None:
    for fold in (0, 1):
        write_cell(
            tmp_path / f"numbers6-crnn-{fold}.json",
            score_predictions(predict([("1", "1")], ids=["x"], fold=fold)),
        )
    with pytest.raises(InputError, match="folds 0 and 1 of numbers6 hold the same images"):
        read_cells(tmp_path, MatrixParams(("numbers6",), ("crnn",), (), (0, 1)))


def test_a_missing_cell_fails_and_a_dropped_one_is_ignored(predict: Predict, tmp_path: Path) -> None:
    write_cell(tmp_path / "numbers6-crnn-0.json", score_predictions(predict([("1", "1")])))
    (tmp_path / "numbers6-removed-0.json").write_text("nonsense")
    assert len(read_cells(tmp_path, MatrixParams(("numbers6",), ("crnn",), (), (0,)))) == 1
    with pytest.raises(InputError, match=r"numbers6-dummy-0.json: missing; run `dvc repro score`"):
        read_cells(tmp_path, MatrixParams(("numbers6",), ("crnn", "dummy"), (), (0,)))


def test_folds_of_two_sources_are_not_pooled(predict: Predict) -> None:
    cells = [
        score_predictions(predict([("1", "1")], fold=0, source="standin")),
        score_predictions(predict([("1", "1")], fold=1, source="kaggle")),
    ]
    with pytest.raises(InputError, match=r"numbers6-crnn-\*.json: folds differ in source"):
        timed(cells)


def test_the_table_survives_the_disk_with_fixed_decimals(predict: Predict, tmp_path: Path) -> None:
    cells = [score_predictions(predict([("123", "123"), ("123", "1"), ("1", "1")], model=m)) for m in ("b", "a")]
    board = timed(cells)
    assert board["model"].to_list() == ["a", "b"]
    path = tmp_path / "leaderboard.csv"
    write_leaderboard(path, board)
    header, first, *_ = path.read_text().splitlines()
    assert header.split(",") == SCHEMA.names()
    assert first.startswith("numbers6,standin,1,a,3,,1,0.666667,0.2076")
    assert ",2.00,20.00,cpu,4" in first
    again = read_leaderboard(path)
    assert again.schema == SCHEMA
    assert again["exact"].to_list() == [0.666667] * 2
    assert again["exact_std"].to_list() == [None] * 2


def test_pretraining_and_precision_are_in_the_row(predict: Predict, tmp_path: Path) -> None:
    provenance = {"pretraining": "ImageNet", "precision": "float32"}
    paths = [predict([("1", "1")], model="b", **provenance), predict([("1", "1")], model="a")]
    cells = []
    for path in paths:
        cell = score_predictions(path)
        write_cell(tmp_path / f"numbers6-{cell.model}-0.json", cell)
        cells.append(read_cell(tmp_path, Cell("numbers6", cell.model, 0)))
    write_leaderboard(tmp_path / "leaderboard.csv", timed(cells))
    again = read_leaderboard(tmp_path / "leaderboard.csv")
    assert again["pretraining"].to_list() == [None, "ImageNet"]
    assert again["arithmetic"].to_list() == [None, "float32"]
    # The column `precision` is the metric.
    assert all(isinstance(value, float) for value in again["precision"].to_list())
    assert summary(again)["b"]["numbers6"]["precision"] == again["precision"][1]
    folds = [score_predictions(predict([(str(fold), "1")], fold=fold, pretraining="ab"[fold])) for fold in (0, 1)]
    with pytest.raises(InputError, match=r"folds differ in pretraining \['a', 'b'\]"):
        timed(folds)


def test_a_missing_or_foreign_table_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    with pytest.raises(InputError, match="run `dvc repro leaderboard`"):
        read_leaderboard(path)
    for text in ("", "a,b\n1,2\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="run `dvc repro leaderboard`"):
            read_leaderboard(path)


def test_summary_nests_and_leaves_out_missing_metrics(predict: Predict) -> None:
    with_loss = score_predictions(predict([("1", "1"), ("2", "2"), ("3", "")], losses=[0.1, 0.2, 0.3]))
    without = score_predictions(predict([("1", "1"), ("2", ""), ("3", "")], model="dummy"))
    metrics = summary(timed([with_loss, without]))
    assert metrics["crnn"]["numbers6"]["exact"] == 0.666667
    assert metrics["crnn"]["numbers6"]["ctc_loss"] == pytest.approx(0.2)
    assert "ctc_loss" not in metrics["dummy"]["numbers6"]
    assert not {"train_seconds", "images_per_second"} & set(metrics["crnn"]["numbers6"])
    assert "NaN" not in json.dumps(metrics)


def test_confusions_are_bounded_and_lose_no_count(predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("1", "1"), ("1", "2"), ("1", "2"), ("1", "3"), ("1", "4"), ("2", ""), ("2", "22")]
    cell = score_predictions(predict(pairs))
    full = confusions([cell])
    assert ("numbers6", "standin", "crnn", "1", "2", 2) in full.rows()
    assert ("numbers6", "standin", "crnn", "2", "deleted", 1) in full.rows()
    assert ("numbers6", "standin", "crnn", "inserted", "2", 1) in full.rows()
    monkeypatch.setattr(board_module, "CONFUSIONS_KEPT", 2)
    bounded = confusions([cell])
    rest = sorted(bounded.filter(predicted="other").select("actual", "count").rows())
    # Kept are 1 read as 2, which occurs twice, and the first in order of those that occur once.
    assert rest == [("1", 1), ("2", 1), ("inserted", 1)]
    assert bounded["count"].sum() == full["count"].sum()


def test_timings_are_read_and_a_missing_one_names_the_command(tmp_path: Path) -> None:
    (tmp_path / "union-crnn-0.train.json").write_text('{"train_seconds": 2.5, "device": "cpu", "threads": 4}')
    with pytest.raises(InputError, match="run `dvc repro predict-union@union-crnn-0`"):
        read_timing(tmp_path, Cell("union", "crnn", 0))
    predicted = tmp_path / "union-crnn-0.predict.json"
    predicted.write_text('{"images": 30, "predict_seconds": 0.5, "images_per_second": 60}')
    assert read_timing(tmp_path, Cell("union", "crnn", 0)) == Timing(2.5, 30, 0.5, "cpu", 4)
    predicted.write_text("{}")
    with pytest.raises(InputError, match=r"union-crnn-0.\*.json: lacks 'images'"):
        read_timing(tmp_path, Cell("union", "crnn", 0))


def test_intervals_of_cer_hold_the_cer_and_are_left_out_where_no_image_differs(predict: Predict) -> None:
    pairs = [("12", "12")] * 30 + [("34", "35")] * 8 + [("567", "")] * 2
    path = predict(pairs)
    row = timed([score_predictions(path)]).row(0, named=True)
    assert row["cer_lo"] < row["cer"] == 14 / 82 < row["cer_hi"]
    # An image has two or three characters.
    assert row["cer_hi"] < row["mean_edit_distance"] < row["mean_edit_distance_hi"]
    assert row["mean_edit_distance_lo"] < row["mean_edit_distance"] == 14 / 40 < row["mean_edit_distance_hi"]
    assert row["coverage_99"] == 0.25
    perfect = timed([score_predictions(predict([("12", "12")] * 30))]).row(0, named=True)
    assert [perfect[f"cer{end}"] for end in ("", "_lo", "_hi")] == [0, None, None]


def test_intervals_are_of_all_folds_together(predict: Predict) -> None:
    rows = []
    for times in (1, 2):
        cells = [score_predictions(predict([("12", "12"), ("34", "3")] * 40, fold=f)) for f in range(times)]
        rows.append(timed(cells).row(0, named=True))
    narrowed = [row["cer_hi"] - row["cer_lo"] for row in rows]
    assert narrowed[1] / narrowed[0] == pytest.approx(2**-0.5, rel=0.15)


def test_a_row_that_calibration_lacks_names_the_command(predict: Predict) -> None:
    cell = score_predictions(predict([("1", "1")]))
    with pytest.raises(InputError, match="lacks crnn on numbers6; run `dvc repro calibration`"):
        leaderboard([cell], {Cell("numbers6", "crnn", 0): TIMING}, {("numbers6", "dummy"): 0.5})
