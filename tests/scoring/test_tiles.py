"""Grids of tiles, counted by hand."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from captchabench.cells.cell import Cell
from captchabench.comparison.compare import compare
from captchabench.comparison.sides import Side, pool
from captchabench.errors import InputError
from captchabench.networks.readings import Reading
from captchabench.predictions.held_out import PredictionInfo, read_predictions, write_predictions
from captchabench.samples.shards import Samples, ShardInfo
from captchabench.scoring.cells import read_cell, score_predictions, write_cell
from captchabench.scoring.counts import Counts
from captchabench.scoring.leaderboard import classes, confusions
from captchabench.scoring.metrics import cer, char_accuracy, macro_scores, selection
from captchabench.scoring.tiles import class_scores, count_selections, wrong_tiles
from captchabench.studies.label_errors import suspects

# Two grids over a, b, c. The first is read with its first two tiles swapped, the second correctly.
LABELS = ["abaaaaaac", "bbbbbbbbb"]
READ = ["baaaaaaac", "bbbbbbbbb"]
NAMES = ("bus", "car", "tree")


def count(labels: list[str], read: list[str]) -> Counts:
    return Counts.of(labels, read, np.full(len(labels), 0.5), None, grids=True)


def test_tiles_are_compared_in_their_places() -> None:
    # In a text, a deletion at the start and an insertion at the end would be two edits. Here all nine tiles are wrong.
    assert wrong_tiles("abcabcabc", "bcabcabca") == 9
    assert wrong_tiles("aaab", "aaaa") == 1
    assert wrong_tiles("aaab", "aa") == 2
    counts = count(LABELS, READ)
    assert counts.edits == 2
    assert cer(counts) == pytest.approx(2 / 18)
    assert char_accuracy(counts) == pytest.approx(16 / 18)
    assert counts.confusion == {("a", "a"): 6, ("a", "b"): 1, ("b", "a"): 1, ("b", "b"): 9, ("c", "c"): 1}


def test_a_challenge_is_solved_by_exactly_its_tiles() -> None:
    # In the first grid the challenges of a and b fail, and that of c is solved. The second grid has only b.
    assert count_selections(LABELS, READ) == {"a": (1, 0), "b": (2, 1), "c": (1, 1)}
    assert selection(count(LABELS, READ)) == pytest.approx(2 / 4)
    # A misread tile fails two challenges: that of its class, and that of the class it is read as.
    assert count_selections(["aab"], ["aaa"]) == {"a": (1, 0), "b": (1, 0)}
    # There is no challenge for a class that is not in the grid.
    assert count_selections(["aab"], ["aac"]) == {"a": (1, 1), "b": (1, 0)}
    assert selection(Counts.of(["ab"], ["ab"], np.ones(1), None)) is None


def test_scores_of_each_class() -> None:
    scores = class_scores(count(LABELS, READ).confusion)
    assert scores["a"] == pytest.approx((7, 6 / 7, 6 / 7, 6 / 7))
    assert scores["b"] == pytest.approx((10, 9 / 10, 9 / 10, 9 / 10))
    assert scores["c"] == (1, 1, 1, 1)
    never = class_scores(count(["ab"], ["aa"]).confusion)
    assert never["b"] == (1, 0, 0, 0)
    # The macro averages of the leaderboard are the means of these.
    assert macro_scores(count(LABELS, READ))[2] == pytest.approx(np.mean([s[3] for s in scores.values()]))


def test_counts_of_folds_add_up_and_survive_json() -> None:
    both = count(LABELS, READ)
    parts = [count([a], [b]) for a, b in zip(LABELS, READ, strict=True)]
    assert parts[0] + parts[1] == both
    assert Counts.from_json(both.as_json()) == both
    assert (both + Counts.of(["a"], ["a"], np.ones(1), None)).selections is None


def write(path: Path, read: list[str], labels: list[str] = LABELS) -> Path:
    """The predictions of a cell over the two grids."""
    info = ShardInfo("grid", "standin", 1, 24, 24, "abc", 9, 9, task="grid", class_names=NAMES)
    n = len(labels)
    ids = np.array([f"{i:032x}" for i in range(n)], object)
    pixels = np.zeros((n, 24, 24), np.uint8)
    samples = Samples(info, ids, np.array(labels, object), np.zeros(n, np.int8), np.full(n, "grid", object), pixels)
    description = PredictionInfo("grid", "standin", 1, "hog_svc", 0, "abc", 10, NAMES)
    write_predictions(path, description, samples, Reading(read, np.full(n, 0.9, np.float32)), None)
    return path


def test_tables_name_classes(tmp_path: Path) -> None:
    cell = score_predictions(write(tmp_path / "grid-hog_svc-0.parquet", READ))
    write_cell(tmp_path / "grid-hog_svc-0.json", cell)
    assert read_cell(tmp_path, Cell("grid", "hog_svc", 0)) == cell
    table = classes([cell])
    assert table["class"].to_list() == list(NAMES)
    assert table["tiles"].to_list() == [7, 10, 1]
    assert table["challenges"].to_list() == [1, 2, 1]
    assert table["solved"].to_list() == [0, 0.5, 1]
    mistaken = confusions([cell]).filter(actual="bus", predicted="car")
    assert mistaken["count"].to_list() == [1]


def test_a_reading_of_other_length_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "grid-hog_svc-0.parquet", ["a", "b"])
    with pytest.raises(InputError, match=r"as more or fewer tiles .* `dvc repro predict-tiles@grid-hog_svc-0`"):
        score_predictions(path)


def test_suspects_are_tiles(tmp_path: Path) -> None:
    read = [LABELS[0], "bbbbcbbbb"]
    files = '["1.png", "2.png", "3.png", "4.png", "5.png", "6.png", "7.png", "8.png", "9.png"]'
    names = {f"{i:032x}": files for i in range(2)}
    table = suspects([read_predictions(write(tmp_path / "grid-hog_svc-0.parquet", read))], {"grid": names})
    assert table.select("name", "label", "reading").rows() == [("5.png", "car", "tree")]


def side(path: Path, read: list[str]) -> Side:
    """A side of a comparison, with one cell."""
    cell = path.with_suffix(".json")
    write_cell(cell, score_predictions(write(path, read)))
    table = read_predictions(path)[1].select(["dataset", "sample_id", "label", "prediction"])
    results = pool(path.stem, {Cell("grid", "hog_svc", 0): cell.read_bytes()}, {})
    return Side(path.stem, None, results, lambda _: _frame(table))


def test_a_comparison_counts_tiles_and_names_classes(tmp_path: Path) -> None:
    (row,) = compare(side(tmp_path / "old.parquet", LABELS), side(tmp_path / "new.parquet", READ)).rows
    assert row.cer is not None
    assert row.cer.difference == pytest.approx(2 / 18)
    assert row.lost is not None
    assert row.lost[0].label.startswith("bus, car, bus")
    assert row.lost[0].new.startswith("car, bus, bus")
    # As texts these differ by two edits, as grids by four tiles.
    rotated = [LABELS[0][1:] + LABELS[0][0], LABELS[1]]
    (row,) = compare(side(tmp_path / "old.parquet", LABELS), side(tmp_path / "rotated.parquet", rotated)).rows
    assert row.cer is not None
    assert row.cer.difference == pytest.approx(wrong_tiles(LABELS[0], rotated[0]) / 18)
    assert wrong_tiles(LABELS[0], rotated[0]) == 4


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))
