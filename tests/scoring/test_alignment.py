"""Alignments that can be checked by hand, and properties of all alignments."""

import time

import editdistance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captchabench.scoring.alignment import DELETED, INSERTED, count_confusions

PAIRS = st.lists(st.tuples(st.text("abA1é", max_size=7), st.text("abA1é", max_size=9)), max_size=30)


@pytest.mark.parametrize(
    ("label", "prediction", "expected"),
    [
        ("abc", "abc", {("a", "a"): 1, ("b", "b"): 1, ("c", "c"): 1}),
        (
            "kitten",
            "sitting",
            {
                ("k", "s"): 1,
                ("i", "i"): 1,
                ("t", "t"): 2,
                ("e", "i"): 1,
                ("n", "n"): 1,
                (INSERTED, "g"): 1,
            },
        ),
        ("ab", "", {("a", DELETED): 1, ("b", DELETED): 1}),
        ("", "ab", {(INSERTED, "a"): 1, (INSERTED, "b"): 1}),
        ("", "", {}),
        # A repeated character that is read once is one deletion.
        ("aab", "ab", {("a", "a"): 1, ("a", DELETED): 1, ("b", "b"): 1}),
        ("11", "111", {("1", "1"): 2, (INSERTED, "1"): 1}),
        # A deletion, a match and an insertion are as many edits, but swapped characters count as two substitutions.
        ("ab", "ba", {("a", "b"): 1, ("b", "a"): 1}),
        # Ties are resolved from the end.
        ("ab", "c", {("a", DELETED): 1, ("b", "c"): 1}),
        ("c", "ab", {(INSERTED, "a"): 1, ("c", "b"): 1}),
        ("aB", "ab", {("a", "a"): 1, ("B", "b"): 1}),
        ("x" * 3, "x" * 40, {("x", "x"): 3, (INSERTED, "x"): 37}),
    ],
)
def test_by_hand(label: str, prediction: str, expected: dict[tuple[str, str], int]) -> None:
    assert count_confusions([label], [prediction]) == expected


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_edits_are_the_fewest_and_every_character_is_counted_once(pairs: list[tuple[str, str]]) -> None:
    labels, predictions = [a for a, _ in pairs], [b for _, b in pairs]
    confusion = count_confusions(labels, predictions)
    edits = sum(n for (a, b), n in confusion.items() if a != b)
    assert edits == sum(editdistance.eval(a, b) for a, b in pairs)
    for symbol in "abA1é":
        assert sum(n for (a, _), n in confusion.items() if a == symbol) == "".join(labels).count(symbol)
        assert sum(n for (_, b), n in confusion.items() if b == symbol) == "".join(predictions).count(symbol)


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_pairs_do_not_influence_each_other(pairs: list[tuple[str, str]]) -> None:
    single: dict[tuple[str, str], int] = {}
    for a, b in pairs:
        for key, n in count_confusions([a], [b]).items():
            single[key] = single.get(key, 0) + n
    assert count_confusions([a for a, _ in pairs], [b for _, b in pairs]) == single


def test_a_hundred_thousand_different_pairs_take_seconds() -> None:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    rng = np.random.default_rng(0)
    labels = ["".join(word) for word in rng.choice(letters, (100_000, 6))]
    predictions = ["".join(word) for word in rng.choice(letters, (100_000, 6))]
    start = time.perf_counter()
    confusion = count_confusions(labels, predictions)
    assert time.perf_counter() - start < 5
    assert sum(n for (a, _), n in confusion.items() if a != INSERTED) == 600_000
