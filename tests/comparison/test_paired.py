"""Comparison statistics against published examples, other packages and sums by hand."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2, chi2_contingency
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import confint_proportions_2indep

from captchabench.comparison.paired import mcnemar, paired_cer, paired_proportions, two_proportions


@pytest.mark.parametrize(
    ("gained", "lost", "exact", "mid"),
    [
        # Fagerland, Lydersen & Laake 2013: airway hyper-responsiveness, p 0.070 and 0.039.
        (1, 7, 18 / 256, 10 / 256),
        # The same, chapter 8 of their book: complete response, p 0.0525 and 0.0347.
        (6, 16, 2 * 110_056 / 2**22, (2 * 110_056 - 74_613) / 2**22),
        (0, 5, 2 / 32, 1 / 32),
        (3, 3, 1, 1),
        (0, 0, 1, 1),
    ],
)
def test_mcnemar_as_published(gained: int, lost: int, exact: float, mid: float) -> None:
    for result in (mcnemar(gained, lost), mcnemar(lost, gained)):
        assert result.differing == gained + lost
        assert (result.exact_p, result.mid_p) == pytest.approx((exact, mid), abs=1e-12)


def test_mcnemar_rounds_to_what_was_printed() -> None:
    result = mcnemar(6, 16)
    assert (round(result.exact_p, 4), round(result.mid_p, 4)) == (0.0525, 0.0347)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_as_in_statsmodels_and_in_fractions(gained: int, lost: int) -> None:
    result = mcnemar(gained, lost)
    n, fewer = gained + lost, min(gained, lost)
    if n:
        table = [[9, gained], [lost, 5]]
        assert result.exact_p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue, abs=1e-12)
    below = sum(comb(n, k) for k in range(fewer))
    assert result.mid_p == pytest.approx(float(Fraction(2 * below + comb(n, fewer), 2**n)), abs=1e-12)
    assert result.mid_p <= result.exact_p


def size(differing: int, level: float = 0.05) -> float:
    """The exact share of false alarms of `p` for equal models, given the number of images that differ."""
    chances = (comb(differing, k) for k in range(differing // 2 + 1) if mcnemar(k, differing - k).p < level)
    return float(Fraction(2 * sum(chances), 2**differing))


def test_false_alarms_are_rare_for_any_number_of_differing_images() -> None:
    sizes = {differing: size(differing) for differing in [*range(1, 81), 150, 300]}
    assert max(sizes.values()) <= 0.07
    assert all(sizes[differing] >= 0.03 for differing in sizes if differing >= 50)


def test_mid_p_alone_has_more_false_alarms_if_few_images_differ() -> None:
    # The reason why McNemar.p is not always mid-p: 16 images, 4 against 12.
    assert mcnemar(4, 12).mid_p < 0.05 < mcnemar(4, 12).p
    assert 2 * sum(comb(16, k) for k in range(5)) / 2**16 > 0.07


@pytest.mark.parametrize("level", [0.05, 0.01, 0.002])
def test_after_holm_the_excess_is_bounded_too(level: float) -> None:
    assert max(size(differing, level) for differing in range(1, 60)) <= 1.4 * level


def test_verdicts_equal_those_of_mid_p_unless_8_or_16_images_differ() -> None:
    parted = {k + m for k in range(40) for m in range(40) if (mcnemar(k, m).p < 0.05) != (mcnemar(k, m).mid_p < 0.05)}
    assert parted == {8, 16}


@pytest.mark.parametrize(
    ("table", "value", "low", "high"),
    [
        # R package contingencytables: chapter 8 of their book.
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
        # The same authors 2014, Statistics in Medicine 33, 2850.
        ((1, 1, 7, 12), -0.286, -0.507, -0.026),
    ],
)
def test_paired_difference_as_published(
    table: tuple[int, int, int, int], value: float, low: float, high: float
) -> None:
    result = paired_proportions(*table)
    digits = 4 if table[0] == 59 else 3
    assert tuple(round(number, digits) for number in result[:3]) == (value, low, high)
    assert result.p == mcnemar(table[1], table[2]).p


@pytest.mark.parametrize("table", [(20, 10, 10, 5), (36, 12, 12, 4), (0, 3, 0, 7)])
def test_uncorrelated_readers_give_the_interval_for_unrelated_images(table: tuple[int, int, int, int]) -> None:
    both, gained, lost, _ = table
    n = sum(table)
    expected = confint_proportions_2indep(both + gained, n, both + lost, n, method="newcomb")
    assert paired_proportions(*table)[1:3] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.integers(0, 400)] * 4).filter(any))
def test_paired_difference_is_in_its_interval_and_changes_sign_with_the_order(table: tuple[int, int, int, int]) -> None:
    both, gained, lost, neither = table
    result, turned = paired_proportions(*table), paired_proportions(both, lost, gained, neither)
    assert -1 - 1e-12 <= result.low <= result.value <= result.high <= 1 + 1e-12
    assert result[:3] == pytest.approx((-turned.value, -turned.high, -turned.low), abs=1e-12)
    assert result.p == turned.p


def test_paired_images_give_narrower_intervals_than_unrelated_ones() -> None:
    paired = paired_proportions(880, 40, 15, 65)
    apart = two_proportions(895, 1000, 920, 1000)
    assert paired.value == pytest.approx(apart.value)
    assert paired.high - paired.low < apart.high - apart.low
    assert paired.p < 0.01 < 0.05 < apart.p


def edits_of(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    return np.minimum(rng.geometric(0.6, n) - 1, 5)


def test_paired_cer_by_hand_and_in_any_order() -> None:
    first, second = np.array([2, 0, 1, 0] * 20), np.array([1, 0, 0, 1] * 20)
    characters = np.array([5, 5, 4, 6] * 20)
    result = paired_cer(first, second, characters, seed=3)
    assert result.value == pytest.approx((40 - 60) / 400)
    assert result.low < result.value < result.high < 0
    order = np.random.default_rng(0).permutation(80)
    assert paired_cer(first[order], second[order], characters[order], seed=3) == result
    assert paired_cer(first, second, characters, seed=4) != result


def test_paired_cer_changes_sign_with_the_order() -> None:
    rng = np.random.default_rng(0)
    first, second, characters = edits_of(rng, 500), edits_of(rng, 500), np.full(500, 5)
    result, turned = (paired_cer(*pair, characters, seed=0) for pair in ((first, second), (second, first)))
    width = result.high - result.low
    assert (turned.value, turned.low, turned.high) == pytest.approx(
        (-result.value, -result.high, -result.low), abs=width / 20
    )
    assert turned.p == pytest.approx(result.p, abs=0.02)


def test_equal_readings_do_not_differ_and_unequal_ones_do() -> None:
    rng = np.random.default_rng(0)
    edits, characters = edits_of(rng, 300), np.full(300, 5)
    assert paired_cer(edits, edits, characters, seed=0) == (0, 0, 0, 1)
    worse = paired_cer(edits, edits + 1, characters, seed=0)
    assert worse[:3] == pytest.approx((0.2, 0.2, 0.2))
    assert worse.p < 0.001


@pytest.mark.parametrize("right", [0, 1])
def test_nothing_differs_if_all_are_right_or_all_wrong(right: int) -> None:
    result = two_proportions(60 * right, 60, 80 * right, 80)
    assert (result.value, result.p) == (0, 1)
    assert result.low < 0 < result.high


def test_two_proportions_as_published() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 873: table II, method 10, 56 of 70 against 48 of 80.
    result = two_proportions(48, 80, 56, 70)
    assert (round(result.low, 4), round(result.high, 4)) == (0.0524, 0.3339)
    assert result.value == pytest.approx(0.2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 80))
def test_the_unpaired_test_is_pearsons(k1: int, k2: int) -> None:
    result = two_proportions(k1, 60, k2, 80)
    assert result.low <= result.value <= result.high
    if k1 + k2 in (0, 140):
        assert result.p == 1
        return
    statistic = chi2_contingency([[k1, 60 - k1], [k2, 80 - k2]], correction=False).statistic
    # Miettinen & Nurminen divide the variance by n - 1, not n.
    assert result.p == pytest.approx(chi2.sf(statistic * 139 / 140, 1), abs=1e-12)


def simulate(rng: np.random.Generator, images: int, gain: float) -> tuple[int, ...]:
    """Two models on images of different difficulty. The second is better by `gain` logits."""
    ease = 1.5 + 2 * rng.standard_normal(images)
    first, second = (rng.random(images) < 1 / (1 + np.exp(-ease - shift)) for shift in (0.0, gain))
    return tuple(int(which.sum()) for which in (first & second, ~first & second, first & ~second, ~(first | second)))


def test_few_of_a_thousand_pairs_of_equal_models_are_called_different() -> None:
    rng = np.random.default_rng(0)
    pairs = [simulate(rng, 400, 0.0) for _ in range(1000)]
    assert min(gained + lost for _, gained, lost, _ in pairs) >= 50
    assert 0.03 <= np.mean([mcnemar(gained, lost).p < 0.05 for _, gained, lost, _ in pairs]) <= 0.07


def test_a_real_difference_is_found_more_often_than_by_the_unpaired_test() -> None:
    rng = np.random.default_rng(0)
    pairs = [simulate(rng, 400, 0.5) for _ in range(300)]
    paired = np.mean([mcnemar(gained, lost).p < 0.05 for _, gained, lost, _ in pairs])
    apart = [two_proportions(both + lost, 400, both + gained, 400) for both, gained, lost, _ in pairs]
    assert 0.5 < paired < 1
    assert paired > np.mean([result.p < 0.05 for result in apart]) + 0.1


def test_intervals_of_differences_have_about_their_nominal_coverage() -> None:
    rng = np.random.default_rng(0)
    pairs = [simulate(rng, 200, 0.5) for _ in range(400)]
    # The true difference, from so many images that its error is negligible.
    both, gained, lost, neither = simulate(rng, 1_000_000, 0.5)
    true = (gained - lost) / (both + gained + lost + neither)
    held = np.mean([result.low <= true <= result.high for result in (paired_proportions(*pair) for pair in pairs)])
    assert 0.92 <= held <= 0.98
