"""Holm's adjustment against a published example and its definition."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captchabench.comparison.multiplicity import holm


def test_as_published() -> None:
    # The worked example of Wikipedia's article on the method.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-12)


def test_by_hand() -> None:
    # 5, 4, 3, 2 and 1 times the p-values, made monotonic.
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09], abs=1e-12)


def test_no_comparison_needs_no_adjustment() -> None:
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


@pytest.mark.usefixtures("spared_garbage")
@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_it_is_bonferroni_over_all_sets_of_hypotheses(p_values: list[float]) -> None:
    # Closed testing (Marcus et al. 1976): reject one if every set that it is in is rejected.
    everyone = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in combinations(everyone, size)]
    bonferroni = {s: min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets}
    expected = [max(p for s, p in bonferroni.items() if i in s) for i in everyone]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)
