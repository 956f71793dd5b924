"""Verdicts on two hand-made sides: which rows are tested and how, and which are not comparable and why."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import editdistance
import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from captchabench.cells.cell import Cell
from captchabench.comparison.compare import compare, compare_models
from captchabench.comparison.retraining import Metric, Noise
from captchabench.comparison.rows import Comparison, Row
from captchabench.comparison.sides import Key, PredictionsMissing, Result, Side, pool
from captchabench.errors import InputError
from captchabench.scoring.cells import samples_digest

pytestmark = pytest.mark.usefixtures("spared_garbage")

NORMALISED = {"height": 32, "width": 100, "resize": "stretch"}
# Measured in so many trainings that it is exact: retraining changes nothing, and the verdict is that on the networks.
QUIET: dict[Metric, Noise] = {"exact": Noise(0.0, 0.0, 10_000, 0.1), "cer": Noise(0.0, 0.0, 10_000, 0.1)}
READ_COLUMNS = {"dataset": pl.String, "sample_id": pl.String, "label": pl.String, "prediction": pl.String}


def readings(right: Sequence[bool], dataset: str = "numbers6", first_id: int = 0) -> pl.DataFrame:
    """One image per value, with the label "123456": read right, or with a wrong last digit."""
    rows = [(dataset, f"{first_id + i:08x}", "123456", "123456" if r else "123450") for i, r in enumerate(right)]
    return pl.DataFrame(rows, schema=READ_COLUMNS, orient="row")


def result(read: pl.DataFrame, cells: tuple[Cell, ...]) -> Result:
    """The result of the readings `read`. The digest is that of its images and labels."""
    pairs = list(zip(read["label"], read["prediction"], strict=True))
    return Result(
        cells=cells,
        source="standin",
        version=1,
        images=(samples_digest(read["dataset"].to_list(), read["sample_id"].to_list(), read["label"].to_list()),),
        n=len(pairs),
        exact=sum(a == b for a, b in pairs),
        edits=sum(editdistance.eval(a, b) for a, b in pairs),
        characters=sum(len(a) for a, _ in pairs),
        normalisation={read["dataset"][0]: NORMALISED},
        noise=QUIET,
    )


def make_side(name: str, cells: dict[Key, pl.DataFrame], *, kept: bool = True) -> Side:
    """A side whose cells have these readings. kept: whether their predictions are available."""

    def predictions(cell: Cell) -> pl.DataFrame:
        if not kept:
            raise PredictionsMissing(f"the predictions of {name} are not in the cache or a remote")
        return cells[cell[:2]]

    results = {key: result(read, (Cell(*key, 0),)) for key, read in cells.items()}
    return Side(name, "0" * 40, results, predictions)


def changed_row(old: Sequence[bool], new: Sequence[bool], **kept: bool) -> Row:
    key = ("numbers6", "crnn")
    sides = [make_side(name, {key: readings(right)}, **kept) for name, right in (("old", old), ("new", new))]
    return compare(*sides).rows[0]


def test_a_row_holds_the_values_the_test_and_the_flips() -> None:
    old = [True] * 900 + [False] * 100
    new = [True] * 890 + [False] * 10 + [True] * 40 + [False] * 60
    row = changed_row(old, new)
    assert row.old is not None
    assert row.new is not None
    assert (row.old.exact_share, row.new.exact_share) == (0.9, 0.93)
    assert row.old.cer == pytest.approx(100 / 6000)
    assert row.test == "paired"
    assert row.exact is not None
    assert row.cer is not None
    assert row.networks is not None
    assert row.exact.difference == pytest.approx(0.03)
    assert row.exact.low < 0.03 < row.exact.high
    assert row.cer.difference == pytest.approx(-30 / 6000)
    assert row.networks.mcnemar.exact_p == pytest.approx(binomtest(40, 50).pvalue, abs=1e-12)
    assert row.networks.mcnemar.mid_p < row.networks.mcnemar.exact_p
    assert row.verdict == "better"
    assert row.gained is not None
    assert row.lost is not None
    assert [flip.sample_id for flip in row.gained] == [f"{i:08x}" for i in range(900, 940)]
    assert [flip.sample_id for flip in row.lost] == [f"{i:08x}" for i in range(890, 900)]
    assert (row.lost[0].label, row.lost[0].old, row.lost[0].new) == ("123456", "123456", "123450")


def test_the_other_way_round_it_is_worse() -> None:
    new, old = [True] * 900 + [False] * 100, [True] * 940 + [False] * 60
    row = changed_row(old, new)
    assert row.verdict == "worse"
    assert row.exact is not None
    assert row.exact.difference == pytest.approx(-0.04)


OPPOSITE = {"better": "worse", "worse": "better"}


@pytest.mark.parametrize("n", [1, 300])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_swapping_the_sides_swaps_everything(n: int, share: float) -> None:
    rng = np.random.default_rng(n)
    old, new = (rng.random(n) < 0.6).tolist(), (rng.random(n) < share).tolist()
    there, back = changed_row(old, new), changed_row(new, old)
    assert back.verdict == OPPOSITE.get(there.verdict, there.verdict)
    assert there.exact is not None
    assert back.exact is not None
    assert there.exact.difference == -back.exact.difference
    assert (there.exact.low, there.exact.high) == pytest.approx((-back.exact.high, -back.exact.low))
    assert there.exact.p == back.exact.p
    assert len(there.gained or ()) == len(back.lost or ()) == sum(b and not a for a, b in zip(old, new, strict=True))


def test_equally_many_flips_each_way_are_no_change() -> None:
    rng = np.random.default_rng(0)
    old = rng.random(2000) < 0.7
    new = rng.permutation(old)
    row = changed_row(old.tolist(), new.tolist())
    assert row.gained is not None
    assert row.lost is not None
    assert len(row.gained) == len(row.lost) > 200
    assert row.verdict == "no significant change"


def test_equal_sides_have_a_p_of_one() -> None:
    row = changed_row([True, False] * 50, [True, False] * 50)
    assert row.exact is not None
    assert (row.exact.difference, row.exact.p) == (0, 1)
    assert row.verdict == "no significant change"


def test_a_change_that_is_significant_alone_may_not_be_in_a_table() -> None:
    """24 of 33 flips one way are rare, but not so rare among twenty rows that could each be significant."""
    old = [True] * 9 + [False] * 24 + [True] * 467
    new = [False] * 9 + [True] * 24 + [True] * 467
    even = [True] * 250 + [False] * 250, [False] * 10 + [True] * 250 + [False] * 240
    alone = changed_row(old, new)
    assert alone.verdict == "better"
    sides = []
    for name, rights in (("old", (old, even[0])), ("new", (new, even[1]))):
        others = {("numbers6", f"model{i:02}"): readings(rights[1]) for i in range(19)}
        sides.append(make_side(name, {("numbers6", "crnn"): readings(rights[0]), **others}))
    row = next(row for row in compare(*sides).rows if row.model == "crnn")
    assert row.exact is not None
    assert row.exact.p_holm is not None
    assert row.exact.p < 0.05 < row.exact.p_holm
    # The interval is as strict as the p beside it.
    assert row.exact.low < 0 < row.exact.high
    assert row.verdict == "no significant change"


def test_without_predictions_the_test_is_unpaired_and_says_so() -> None:
    old, new = [True] * 900 + [False] * 100, [True] * 940 + [False] * 60
    row = changed_row(old, new, kept=False)
    assert row.test == "unpaired"
    assert row.reason == "unpaired test: the predictions of old are not in the cache or a remote"
    assert row.verdict == "better"
    assert row.exact is not None
    assert row.exact.difference == pytest.approx(0.04)
    assert (row.networks, row.gained, row.lost, row.cer) == (None, None, None, None)
    paired = changed_row(old, new)
    assert paired.exact is not None
    # The unpaired test cannot use that the same images are hard for both.
    assert row.exact.p > paired.exact.p


def test_predictions_of_another_run_than_the_metrics_are_not_joined() -> None:
    key = ("numbers6", "crnn")
    old = make_side("old", {key: readings([True] * 90 + [False] * 10)})
    stale = replace(old.results[key], exact=80)
    row = compare(replace(old, results={key: stale}), make_side("new", {key: readings([True] * 100)})).rows[0]
    assert row.test == "unpaired"
    assert "predictions of old are not those of its metrics" in row.reason


def test_new_and_gone_rows_are_named() -> None:
    read = readings([True] * 50)
    old = make_side("old", {("numbers6", "crnn"): read, ("numbers6", "hog_svc"): read})
    new = make_side("new", {("numbers6", "crnn"): read, ("numbers6", "char_cnn"): read})
    found = {row.model: row for row in compare(old, new).rows}
    assert {model: row.verdict for model, row in found.items()} == {
        "char_cnn": "new",
        "crnn": "no significant change",
        "hog_svc": "gone",
    }
    assert found["char_cnn"].old is None
    assert found["hog_svc"].new is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "kaggle"}, "source differs (standin, kaggle)"),
        ({"version": 2}, "dataset version differs (1, 2)"),
        ({"normalisation": {"numbers6": {**NORMALISED, "width": 120}}}, "normalisation differs (width 100, 120)"),
        (
            {"normalisation": {"numbers6": {**NORMALISED, "clahe": True}}},
            "normalisation differs (clahe unset, true)",
        ),
        ({"normalisation": {"vtu": NORMALISED}}, "numbers6 is a member of one union only"),
        ({"cells": (Cell("numbers6", "crnn", 1),)}, "held-out images differ (folds 0; 1)"),
    ],
)
def test_sides_that_differ_are_not_comparable(change: dict[str, Any], reason: str) -> None:
    key = ("numbers6", "crnn")
    old = make_side("old", {key: readings([True] * 100)})
    new = replace(old, name="new", results={key: replace(old.results[key], **change)})
    row = compare(old, new).rows[0]
    assert (row.verdict, row.reason, row.test, row.exact) == ("not comparable", reason, None, None)


def test_other_held_out_images_are_counted() -> None:
    key = ("numbers6", "crnn")
    old = make_side("old", {key: readings([True] * 100)})
    new = make_side("new", {key: readings([True] * 80, first_id=40)})
    assert compare(old, new).rows[0].reason == "held-out images differ (60 in common, of 100 and 80)"
    relabelled = readings([True] * 100).with_columns(
        label=pl.when(pl.col("sample_id") < f"{7:08x}").then(pl.lit("999999")).otherwise("label")
    )
    row = compare(old, make_side("new", {key: relabelled})).rows[0]
    assert row.reason == "held-out images differ in label (7 of 100)"
    gone = compare(old, make_side("new", {key: relabelled}, kept=False)).rows[0]
    assert gone.reason == "held-out images or labels differ (100 images, 100)"


def test_rows_that_were_not_tested_do_not_count_for_holm() -> None:
    key, other = ("numbers6", "crnn"), ("numbers6", "hog_svc")
    read = readings([True] * 50)
    old = make_side("old", {key: readings([False] * 10 + [True] * 40)})
    found = compare(old, make_side("new", {key: read, other: read}))
    assert found.tested == 1


def test_two_models_of_one_side() -> None:
    strong, weak = readings([True] * 300), readings([True] * 250 + [False] * 50)
    side = make_side("main", {("numbers6", "crnn"): strong, ("numbers6", "hog_svc"): weak, ("union", "crnn"): strong})
    found = compare_models(side, "crnn", "hog_svc")
    assert (found.old, found.new) == ("crnn", "hog_svc")
    assert [(row.dataset, row.model, row.verdict) for row in found.rows] == [
        ("numbers6", "hog_svc", "worse"),
        ("union", "hog_svc", "not comparable"),
    ]
    assert found.rows[1].reason == "hog_svc was not run on this dataset"
    assert [row.dataset for row in found.regressions()] == ["numbers6"]
    with pytest.raises(InputError, match="did you mean 'crnn'"):
        compare_models(side, "crn", "hog_svc")


def test_a_regression_within_the_margin_passes() -> None:
    row = changed_row([True] * 940 + [False] * 60, [True] * 900 + [False] * 100)
    found = Comparison("old", None, "new", None, (row,))
    assert found.regressions() == [row]
    assert found.regressions(margin=0.039) == [row]
    assert found.regressions(margin=0.041) == []


def the_same_of_every_cell(read: pl.DataFrame, _: Cell) -> pl.DataFrame:
    return read


def test_the_members_of_a_union_are_joined_separately() -> None:
    """`union/numbers6` is tested on its own images, read from the union's file."""
    union = pl.concat([readings([True] * 40), readings([True] * 20 + [False] * 40, "vtu", first_id=100)])
    better = pl.concat([readings([True] * 40), readings([True] * 60, "vtu", first_id=100)])
    sides = []
    for name, read in (("old", union), ("new", better)):
        results = {
            (dataset, "crnn"): result(part, (Cell("union", "crnn", 0),))
            for dataset, part in (("union", read), *((f"union/{d[0]}", p) for d, p in read.group_by("dataset")))
        }
        sides.append(Side(name, None, results, partial(the_same_of_every_cell, read)))
    found = {row.dataset: row for row in compare(*sides).rows}
    assert {dataset: row.old and row.old.n for dataset, row in found.items()} == {
        "union": 100,
        "union/numbers6": 40,
        "union/vtu": 60,
    }
    assert found["union/numbers6"].verdict == "no significant change"
    assert found["union/vtu"].verdict == "better"
    assert len(found["union/vtu"].gained or ()) == len(found["union"].gained or ()) == 40


def test_json_is_plain_and_complete() -> None:
    row = changed_row([True] * 94 + [False] * 6, [True] * 90 + [False] * 10)
    text = json.dumps(Comparison("old", None, "new", "1" * 40, (row,)).as_json(), allow_nan=False)
    values = json.loads(text)
    (read,) = values["rows"]
    assert read["old"] == {"version": 1, "folds": 1, "n": 100, "exact": 0.94, "cer": 0.01}
    assert set(read["exact"]) == {"difference", "low", "high", "p", "p_holm", "detectable"}
    assert set(read["networks"]) == {"differing", "low", "high", "p_mid", "p_exact", "p", "p_holm"}
    assert len(read["lost"]) == 4
    assert read["lost"][0]["new"] == "123450"


CELL: dict[str, Any] = {
    "dataset": "numbers6",
    "model": "crnn",
    "fold": 0,
    "source": "standin",
    "version": 1,
    "parts": {"numbers6": {"samples": "ab", "n": 10, "exact": 9, "edits": 2, "characters": 60, "later": []}},
}


def test_cells_of_other_versions_of_this_program_are_pooled() -> None:
    """Only the fields that a comparison needs are read."""
    second = {**CELL, "parts": {"numbers6": {**CELL["parts"]["numbers6"], "samples": "cd", "exact": 4}}}
    cells = {Cell("numbers6", "crnn", fold): json.dumps(cell).encode() for fold, cell in enumerate((CELL, second))}
    found = pool("main", cells, {"numbers6": NORMALISED})[("numbers6", "crnn")]
    assert (found.n, found.exact, found.edits, found.characters) == (20, 13, 4, 120)
    assert found.images == ("ab", "cd")
    assert found.cells == (Cell("numbers6", "crnn", 0), Cell("numbers6", "crnn", 1))
    assert found.normalisation == {"numbers6": NORMALISED}


def test_a_damaged_cell_and_folds_of_two_sources_are_named() -> None:
    key = Cell("numbers6", "crnn", 0)
    with pytest.raises(InputError, match=r"main: metrics/cells/numbers6-crnn-0.json: is not one of our cells"):
        pool("main", {key: b"{"}, {})
    cells = {key: json.dumps(CELL).encode(), Cell("numbers6", "crnn", 1): json.dumps({**CELL, "version": 2}).encode()}
    with pytest.raises(InputError, match=r"main: folds of numbers6, crnn differ in version \(1, 2\)"):
        pool("main", cells, {})
