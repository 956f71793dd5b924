"""Metrics on tables small enough to count by hand, and their bounds."""

import json
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captchabench.errors import InputError
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import wilson
from captchabench.scoring.metrics import METRICS, SCORED, macro_scores

WORDS = st.text("abAB12", min_size=1, max_size=6)
PAIRS = st.lists(st.tuples(WORDS, st.text("abAB12x", max_size=8)), min_size=1, max_size=30)


def count(pairs: list[tuple[str, str]]) -> Counts:
    # Confidences are multiples of 1/16, so that their sums are exact.
    sure = np.array([len(b) % 17 / 16 for _, b in pairs])
    return Counts.of([a for a, _ in pairs], [b for _, b in pairs], sure, None)


def value(name: str, counts: Counts) -> float | None:
    compute = METRICS[name].compute
    assert compute is not None
    return compute(counts)


Row = tuple[list[tuple[str, str]], float, float, float, float, float, float]
TABLE: list[Row] = [
    # pairs, exact, exact_folded, cer, char_accuracy, position_accuracy, mean_edit_distance
    ([("kitten", "sitting")], 0, 0, 3 / 6, 4 / 6, 4 / 6, 3),
    ([("kitten", "kitten")], 1, 1, 0, 1, 1, 0),
    ([("aBc", "abc"), ("aBc", "aBc")], 1 / 2, 1, 1 / 6, 5 / 6, 5 / 6, 1 / 2),
    ([("aab", "ab")], 0, 0, 1 / 3, 2 / 3, 1 / 3, 1),
    # One missing character at the start moves all others.
    ([("abcde", "bcde")], 0, 0, 1 / 5, 4 / 5, 0, 1),
    ([("ab", "")], 0, 0, 1, 0, 0, 2),
    ([("a", "bbbb")], 0, 0, 4, 0, 0, 4),
    ([("11", "11"), ("111", "11")], 1 / 2, 1 / 2, 1 / 5, 4 / 5, 4 / 5, 1 / 2),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_by_hand(row: Row) -> None:
    names = ("exact", "exact_folded", "cer", "char_accuracy", "position_accuracy", "mean_edit_distance")
    counts = count(row[0])
    assert [value(name, counts) for name in names] == pytest.approx(list(row[1:]))


def test_macro_scores_by_hand() -> None:
    # a: 2 of 3 hit (one read as b), read twice. b: 1 of 2 hit (one deleted), read twice.
    counts = count([("aab", "abb"), ("ab", "a")])
    assert counts.confusion == {("a", "a"): 2, ("a", "b"): 1, ("b", "b"): 1, ("b", "deleted"): 1}
    precision, recall, f1 = macro_scores(counts)
    assert precision == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert recall == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert f1 == pytest.approx((4 / 5 + 2 / 4) / 2)


def test_an_inserted_character_costs_its_precision() -> None:
    counts = count([("ab", "aab")])
    assert macro_scores(counts) == pytest.approx(((1 / 2 + 1) / 2, 1, (2 / 3 + 1) / 2))


def test_a_character_that_occurs_in_no_label_has_no_class() -> None:
    assert macro_scores(count([("1", "1"), ("1", "x")])) == pytest.approx((1, 1 / 2, 2 / 3))


def test_a_character_that_is_never_read_has_no_precision() -> None:
    assert macro_scores(count([("12", "1")])) == pytest.approx((1 / 2, 1 / 2, 1 / 2))


def test_one_class_read_right() -> None:
    assert macro_scores(count([("1", "1"), ("11", "11")])) == (1, 1, 1)


def test_ctc_loss_is_a_mean_and_absent_without_one() -> None:
    counts = Counts.of(["1", "2"], ["1", "2"], np.ones(2), np.array([0.25, 0.75]))
    assert value("ctc_loss", counts) == 0.5
    assert value("ctc_loss", count([("1", "1")])) is None


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_bounds(pairs: list[tuple[str, str]]) -> None:
    counts = count(pairs)
    named = {metric.name: value(metric.name, counts) for metric in SCORED if metric.compute}
    scores = {name: score for name, score in named.items() if score is not None}
    longest = sum(max(len(a), len(b)) for a, b in pairs) / counts.characters
    assert 0 <= scores["cer"] <= longest
    assert scores["exact"] <= scores["exact_folded"] <= 1
    assert (scores["exact"] == 1) == (scores["cer"] == 0)
    for name in ("exact", "char_accuracy", "precision", "recall", "f1", "ece"):
        assert 0 <= scores[name] <= 1
    # An insertion is an edit, but no character of the label is missed.
    assert 1 - scores["char_accuracy"] <= scores["cer"] + 1e-12


@settings(max_examples=50, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(pairs: list[tuple[str, str]], random: Random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert count(shuffled) == count(pairs)


@settings(max_examples=50, deadline=None)
@given(PAIRS, PAIRS)
def test_two_folds_pool_to_the_whole(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    assert count(first) + count(second) == count(first + second)


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_counts_survive_json(pairs: list[tuple[str, str]]) -> None:
    assert Counts.from_json(count(pairs).as_json()) == count(pairs)


def test_images_are_kept_by_edits_and_characters() -> None:
    counts = count([("kitten", "sitting"), ("ab", "ab"), ("12", "12"), ("aB", "ab")])
    assert counts.images == {(0, 2): 2, (1, 2): 1, (3, 6): 1}
    assert Counts.from_json(json.loads(json.dumps(counts.as_json()))) == counts
    changed = counts.as_json() | {"images": {"2": {"0": 2}}}
    with pytest.raises(ValueError, match="do not add up"):
        Counts.from_json(changed)


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_images_add_up(pairs: list[tuple[str, str]]) -> None:
    counts = count(pairs)
    assert sum(counts.images.values()) == counts.n
    assert sum(edits * n for (edits, _), n in counts.images.items()) == counts.edits
    assert sum(length * n for (_, length), n in counts.images.items()) == counts.characters
    assert sum(n for (edits, _), n in counts.images.items() if not edits) == counts.exact


def test_pooled_counts_have_no_loss_if_one_part_has_none() -> None:
    with_loss = Counts.of(["1"], ["1"], np.ones(1), np.array([0.5]))
    assert (with_loss + with_loss).ctc_loss == 1
    assert (with_loss + count([("1", "1")])).ctc_loss is None


def test_every_metric_declares_a_direction_and_a_description() -> None:
    lower = {"cer", "ctc_loss", "ece", "mean_edit_distance", "parameters", "train_seconds"}
    higher = {"exact", "exact_folded", "char_accuracy", "position_accuracy", "precision", "recall", "f1"}
    higher |= {"selection", "coverage_99"}
    assert not any(METRICS[name].higher_is_better for name in lower)
    assert all(METRICS[name].higher_is_better for name in higher)
    assert all(METRICS[name].description for name in METRICS.names())
    with pytest.raises(InputError, match="did you mean 'exact'"):
        METRICS["exat"]


def test_wilson_against_the_formula() -> None:
    # 105 of 107, the published CRNN on fournierp: 93.4 to 99.5 %.
    low, high = wilson(105, 107)
    z, p, n = 1.959963984540054, 105 / 107, 107
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (low, high) == pytest.approx((centre - half, centre + half))
    assert (round(low, 3), round(high, 3)) == (0.934, 0.995)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
