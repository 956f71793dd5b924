"""Tests whether one of two models is better: on the same images, or on independent ones if need be."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from captchabench.scoring.intervals import TAILS, resample, wilson

# By what factor the false positive rate of a test may exceed its level.
_EXCESS = 1.4


@dataclass(frozen=True)
class McNemar:
    """Two-sided p-values of McNemar's test; `differing` images were read correctly by only one model."""

    differing: int
    exact_p: float
    mid_p: float

    @property
    def p(self) -> float:
        """The p-value of verdicts: mid-p, but at least five sevenths of the exact p.

        With this floor at most 7 % of comparisons of equal models are significant at 5 %, for any number of differing
        images. For mid-p alone the rate is 7.03 % for 8 differing images and 7.7 % for 16. For other numbers the floor
        rarely matters.
        """
        return max(self.mid_p, self.exact_p / _EXCESS)


class Difference(NamedTuple):
    """The second model's value minus the first's, its 95 % interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


def mcnemar(gained: int, lost: int) -> McNemar:
    """Compare two models by the images that only one reads correctly (McNemar 1947; mid-p: Fagerland et al. 2013).

    gained: images that only the second model reads correctly; lost: only the first. If there are none, both p are 1.
    """
    differing, fewer = gained + lost, min(gained, lost)
    tail = float(binom.cdf(fewer, differing, 0.5))
    outermost = float(binom.pmf(fewer, differing, 0.5))
    # If gained equals lost, the two tails overlap, and their sum exceeds 1.
    return McNemar(differing, min(2 * tail, 1.0), min(2 * tail - outermost, 1.0))


def paired_proportions(both: int, gained: int, lost: int, neither: int) -> Difference:
    """Difference of two shares of the same images (interval: Newcombe 1998b, method 10; p: `mcnemar`).

    both, neither: images that both models or neither read correctly; gained, lost: see `mcnemar`. Raises ValueError for
    no images. The interval is not the inverse of the test: near 5 % they may disagree.
    """
    n = both + gained + lost + neither
    before, after = both + lost, both + gained
    first, second = wilson(before, n), wilson(after, n)
    # The correlation of the two models' results, with a continuity correction if positive.
    covariance = float(both * neither - gained * lost)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    margins = before * (n - before) * after * (n - after)
    phi = covariance / np.sqrt(float(margins)) if margins else 0.0
    below, above = after / n - second[0], second[1] - after / n
    other_below, other_above = before / n - first[0], first[1] - before / n
    value = (gained - lost) / n
    low = value - np.sqrt(below**2 - 2 * phi * below * other_above + other_above**2)
    high = value + np.sqrt(above**2 - 2 * phi * above * other_below + other_below**2)
    return Difference(value, float(low), float(high), mcnemar(gained, lost).p)


def paired_cer(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    characters: NDArray[np.int64],
    seed: int,
    resamples: int = 10_000,
) -> Difference:
    """Difference of two CERs on the same images, by resampling images (Efron & Tibshirani 1993, 13.3 and 16.4).

    first, second: [N] edits of each model; characters: [N] of the labels. The interval is the
    percentile interval. p is the share of resamples that differ from the observed difference by at least its absolute
    value. The same images give the same numbers in any order.
    """
    unique, counts = np.unique(np.stack([first, second, characters]), axis=1, return_counts=True)
    change, length = unique[1] - unique[0], unique[2]
    value = float(counts @ change / (counts @ length))
    weights = resample(counts, resamples, seed)
    resampled = (weights @ change) / (weights @ length)
    low, high = np.quantile(resampled, TAILS)
    # The tolerance keeps ties despite rounding.
    extreme = np.count_nonzero(np.abs(resampled - value) >= abs(value) * (1 - 1e-9))
    return Difference(value, float(low), float(high), (extreme + 1) / (resamples + 1))


def two_proportions(k1: int, n1: int, k2: int, n2: int) -> Difference:
    """Difference of two shares of independent images: k1 of n1, then k2 of n2.

    Interval: Newcombe 1998a, method 10. p: score test of Miettinen & Nurminen 1985. On the same images both are
    conservative: they ignore that an image that is hard for one model tends to be hard for the other.
    """
    # Imported here: it takes a second, and most comparisons are of the same images.
    from statsmodels.stats.proportion import confint_proportions_2indep, score_test_proportions_2indep

    low, high = confint_proportions_2indep(k2, n2, k1, n1, method="newcomb", compare="diff")
    # If all are right or all are wrong, the test divides zero by zero.
    constant = k1 + k2 in (0, n1 + n2)
    p = 1.0 if constant else score_test_proportions_2indep(k2, n2, k1, n1, return_results=False)[1]
    return Difference(k2 / n2 - k1 / n1, float(low), float(high), float(p))
