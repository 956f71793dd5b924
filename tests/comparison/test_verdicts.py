"""Verdicts on what happened: noise of retraining, CER, rows that cannot be significant, and what was not judged."""

import math
from collections.abc import Sequence
from dataclasses import replace

import editdistance
import numpy as np
import polars as pl
import pytest
from statsmodels.stats.power import NormalIndPower

from captchabench.cells.cell import Cell
from captchabench.comparison.compare import compare
from captchabench.comparison.retraining import Metric, Noise
from captchabench.comparison.rows import Row
from captchabench.comparison.sides import Side, Sums
from tests.comparison.test_comparison import READ_COLUMNS, changed_row, make_side, readings

KEY = ("numbers6", "crnn")


def one_row(old: Side, new: Side, **changes: object) -> Row:
    """The row of two sides of KEY, whose results on both sides have `changes`."""
    sides = [replace(side, results={KEY: replace(side.results[KEY], **changes)}) for side in (old, new)]  # type: ignore[arg-type]
    return compare(*sides).rows[0]


def two_sides(old: Sequence[bool], new: Sequence[bool]) -> tuple[Side, Side]:
    return make_side("old", {KEY: readings(old)}), make_side("new", {KEY: readings(new)})


# 97.6 to 93.2 %: what one training in bfloat16 on one thread, and one in float32 on four, read of 1,200 images.
BEFORE = [True] * 1171 + [False] * 29
AFTER = [True] * 1105 + [False] * 66 + [True] * 13 + [False] * 16


def test_retraining_on_another_machine_is_no_regression_and_its_arithmetic_is_named() -> None:
    old, new = two_sides(BEFORE, AFTER)
    arithmetic = ({"precision": "float32", "threads": "4"}, {"precision": "bfloat16", "threads": "1"})
    sides = [
        replace(side, results={KEY: replace(side.results[KEY], noise={}, arithmetic=computed)})
        for side, computed in zip((old, new), arithmetic, strict=True)
    ]
    found = compare(*sides)
    row = found.rows[0]
    # The two networks differ for certain.
    assert row.networks is not None
    assert row.networks.p_holm is not None
    assert row.networks.p_holm < 1e-6
    assert row.words == "no significant change (provisional)"
    assert found.regressions() == []
    assert row.arithmetic == "precision float32 -> bfloat16; threads 4 -> 1"
    assert any(row.arithmetic in note for note in row.notes)
    assert any("retraining the same program moves results as far" in note for note in row.notes)


def test_without_an_estimate_only_a_large_loss_is_worse() -> None:
    old, new = two_sides([True] * 1171 + [False] * 29, [True] * 300 + [False] * 900)
    row = one_row(old, new, noise={})
    assert row.words == "worse (provisional)"
    assert row.as_json()["provisional"]


def test_measured_noise_decides() -> None:
    """The same readings: worse where retraining moves little, no change where it moves as much."""
    old, new = two_sides(BEFORE, AFTER)
    little = {"exact": Noise(2e-5, 1.5e-5, 5, 0.044), "cer": Noise(1e-6, 1e-6, 5, 0.008)}
    much = {"exact": Noise(6e-4, 2e-5, 5, 0.044), "cer": Noise(6e-5, 1e-6, 5, 0.008)}
    assert one_row(old, new, noise=little).words == "worse"
    row = one_row(old, new, noise=much)
    assert row.words == "no significant change"
    assert row.basis == "study"


def test_the_estimate_of_one_side_serves_both() -> None:
    old, new = two_sides(BEFORE, AFTER)
    measured: dict[Metric, Noise] = {"exact": Noise(6e-4, 2e-5, 5, 0.044), "cer": Noise(6e-5, 1e-6, 5, 0.008)}
    one = replace(new, results={KEY: replace(new.results[KEY], noise={})})
    sides = replace(old, results={KEY: replace(old.results[KEY], noise=measured)}), one
    both = one_row(old, new, noise=measured)
    row = compare(*sides).rows[0]
    assert row.exact == both.exact
    assert row.basis == "study"


def folds_side(name: str, rights: Sequence[Sequence[bool]]) -> Side:
    """A side with one cell for each fold."""
    reads = [readings(right, first_id=1000 * fold) for fold, right in enumerate(rights)]
    single = [make_side(name, {KEY: read}).results[KEY] for read in reads]
    cells = tuple(Cell(*KEY, fold) for fold in range(len(reads)))
    pooled = {
        trait: sum(getattr(result, trait) for result in single) for trait in ("n", "exact", "edits", "characters")
    }
    result = replace(
        single[0],
        cells=cells,
        images=tuple(one.images[0] for one in single),
        by_fold=tuple(Sums(one.n, one.exact, one.edits, one.characters) for one in single),
        noise={},
        **pooled,
    )
    return Side(name, None, {KEY: result}, lambda cell: reads[cell.fold])


def test_folds_are_their_own_estimate() -> None:
    """Losses in all folds are a change; a loss in one fold of five may be an unlucky training."""
    full = [[True] * 200] * 5
    everywhere = [[True] * 185 + [False] * 15, *([[True] * (182 + i) + [False] * (18 - i) for i in range(4)])]
    in_one = [[True] * 118 + [False] * 82, *full[1:]]
    steady = compare(folds_side("old", full), folds_side("new", everywhere)).rows[0]
    unlucky = compare(folds_side("old", full), folds_side("new", in_one)).rows[0]
    assert (steady.words, steady.basis) == ("worse", "folds")
    assert unlucky.words == "no significant change"
    assert unlucky.as_json()["exact"]["p_nadeau_bengio"] > 0.05
    # The pooled networks lost about as many images either way.
    assert steady.lost is not None
    assert unlucky.lost is not None
    assert abs(len(steady.lost) - len(unlucky.lost)) < 5


def grid_side(name: str, texts: Sequence[str]) -> Side:
    rows = [("grid", f"{i:08x}", "abcabcabc", text) for i, text in enumerate(texts)]
    side = make_side(name, {("grid", "hog_svc"): pl.DataFrame(rows, schema=READ_COLUMNS, orient="row")})
    classes = {"a": "bus", "b": "car", "c": "tree"}
    return replace(side, results={key: replace(r, class_names=classes, noise={}) for key, r in side.results.items()})


def test_tiles_made_wrong_at_no_exact_match_are_worse() -> None:
    """39 % of the tiles right, then none: exact match is 0 % both times."""
    rng = np.random.default_rng(0)
    label = "abcabcabc"
    shift = {"a": "b", "b": "c", "c": "a"}
    before = [
        "".join(c if r < 0.39 else shift[c] for c, r in zip(label, rng.random(9), strict=True)) for _ in range(195)
    ]
    found = compare(grid_side("old", before), grid_side("new", ["bcabcabca"] * 195))
    (row,) = found.rows
    assert row.exact is not None
    assert row.cer is not None
    assert (row.exact.difference, row.exact.p) == (0, 1)
    assert row.cer.p_holm is not None
    assert row.cer.p_holm < 0.001
    assert row.words == "worse (provisional)"
    assert any("rests on tiles" in note for note in row.notes)
    assert found.regressions(0.1) == [row]


def test_the_cer_that_a_row_would_have_found_is_that_of_the_normal_test() -> None:
    """Without retraining noise: against statsmodels, at half the level, since CER is the second family of tests."""
    reads = []
    for wrong in ((40, 25), (15, 60)):
        # One edit in some images, three in others.
        texts = ["123450"] * wrong[0] + ["123"] * wrong[1]
        rows = [
            ("numbers6", f"{i:08x}", "123456", text) for i, text in enumerate(texts + ["123456"] * (400 - sum(wrong)))
        ]
        reads.append(pl.DataFrame(rows, schema=READ_COLUMNS, orient="row"))
    (row,) = compare(*(make_side(name, {KEY: read}) for name, read in zip(("old", "new"), reads, strict=True))).rows
    edits = [np.array([editdistance.eval(*pair) for pair in read[["label", "prediction"]].rows()]) for read in reads]
    error = math.sqrt(float(((edits[1] - edits[0]) ** 2).sum())) / 2400
    assert row.cer is not None
    power = NormalIndPower(ddof=0).power(row.cer.detectable / error, 1, 0.05 / 2 / 2, ratio=0, alternative="larger")
    assert power == pytest.approx(0.8, abs=1e-6)
    assert row.as_json()["cer"]["detectable"] == pytest.approx(row.cer.detectable, abs=1e-6)


def test_rows_that_differ_nowhere_cost_the_others_nothing() -> None:
    """98.2 to 92.8 % with a p of 0.0084: 0.067 over 8 rows, 0.025 over the 3 that differ."""
    old = [True] * 9 + [False] * 2 + [True] * 100
    new = [False] * 8 + [True] * 3 + [True] * 100
    alone = changed_row(old, new)
    idle = {("numbers6", f"model{i:02}"): readings([True] * 111) for i in range(24)}
    sides = [make_side(name, {KEY: readings(right), **idle}) for name, right in (("old", old), ("new", new))]
    found = compare(*sides)
    row = next(row for row in found.rows if row.model == "crnn")
    assert found.tested == 1
    assert row.exact is not None
    assert alone.exact is not None
    assert row.exact.p_holm == pytest.approx(alone.exact.p)
    quiet = next(row for row in found.rows if row.model != "crnn")
    assert quiet.exact is not None
    assert quiet.exact.p_holm is None


@pytest.mark.parametrize("lost", range(0, 60, 3))
def test_no_interval_contradicts_its_verdict(lost: int) -> None:
    others = {("numbers6", f"model{i}"): i for i in range(5)}
    sides = []
    for name, is_new in (("old", False), ("new", True)):
        cells = {key: readings([not (is_new and j < 9 + i) for j in range(300)]) for key, i in others.items()}
        right = [not (is_new and j < lost) and not (not is_new and j >= 292) for j in range(300)]
        sides.append(make_side(name, {KEY: readings(right), **cells}))
    for row in compare(*sides).rows:
        assert row.exact is not None
        assert (row.exact.low > 0 or row.exact.high < 0) == (row.verdict in ("better", "worse"))


def test_a_duplicated_image_with_another_missing_is_not_paired() -> None:
    read = readings([True] * 90 + [False] * 10)
    twice = read.with_columns(
        sample_id=pl.when(pl.col("sample_id") == f"{3:08x}").then(pl.lit(f"{4:08x}")).otherwise("sample_id")
    )
    new = make_side("new", {KEY: read})
    row = compare(replace(new, name="old"), replace(new, predictions=lambda _: twice)).rows[0]
    assert row.test == "unpaired"
    assert "the predictions of new are of other images than its metrics" in row.reason


def test_what_was_not_judged_is_said() -> None:
    read = readings([True] * 50)
    old = make_side("old", {KEY: read, ("numbers6", "hog_svc"): read})
    relabelled = read.with_columns(label=pl.lit("999999"))
    behind = replace(make_side("new", {KEY: relabelled}), behind=("captchabench/models/crnn.py",))
    assert compare(old, behind).unjudged() == [
        "crnn on numbers6: held-out images differ in label (50 of 50)",
        "hog_svc on numbers6: gone",
        "the results of new are older than captchabench/models/crnn.py; run `dvc repro`",
        "no row was tested",
    ]
    # A new row has nothing to be compared with.
    fresh = make_side("new", {KEY: read, ("numbers6", "hog_svc"): read, ("vtu", "crnn"): read})
    assert compare(old, fresh).unjudged() == []


def test_exact_match_and_cer_that_disagree_are_mixed() -> None:
    """More images are read right, but the others are read much worse."""
    label = "123456"

    def side(name: str, right: int, wrong: str) -> Side:
        texts = [label if i < right else wrong for i in range(400)]
        rows = [("numbers6", f"{i:08x}", label, text) for i, text in enumerate(texts)]
        return make_side(name, {KEY: pl.DataFrame(rows, schema=READ_COLUMNS, orient="row")})

    (row,) = compare(side("old", 200, "123450"), side("new", 240, "")).rows
    assert row.verdict == "mixed"
    assert row.lost_more_than(0.0)
