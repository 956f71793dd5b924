"""Is the second of two models better than the first? On the same images; or, failing that, on any."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from captchabench.scoring.intervals import TAILS, resample, wilson

# How much more often than it should a test of equal models may find a difference.
_EXCESS = 1.4
_RESAMPLES = 10_000


@dataclass(frozen=True)
class McNemar:
    """Two-sided p-values of McNemar's test; `differing` images were read right by one model alone."""

    differing: int
    exact_p: float
    mid_p: float

    @property
    def p(self) -> float:
        """What a verdict is based on: mid-p, but no less than five sevenths of the exact p.

        So at most 7 % of comparisons of equal models are significant at 5 %, however many images differ. Mid-p
        alone errs in 7.03 % where 8 images differ, in 7.7 % where 16 do; elsewhere the two seldom part.
        """
        return max(self.mid_p, self.exact_p / _EXCESS)


class Difference(NamedTuple):
    """The second model's value less the first's, its 95 % interval, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float


def mcnemar(gained: int, lost: int) -> McNemar:
    """Compare two models by the images that one alone reads right (McNemar 1947; mid-p: Fagerland et al. 2013).

    gained: images read right by the second model alone; lost: by the first alone. Where none is, both p are 1.
    """
    differing, fewer = gained + lost, min(gained, lost)
    tail = float(binom.cdf(fewer, differing, 0.5))
    outermost = float(binom.pmf(fewer, differing, 0.5))
    # Both tails meet where gained equals lost.
    return McNemar(differing, min(2 * tail, 1.0), min(2 * tail - outermost, 1.0))


def paired_proportions(both: int, gained: int, lost: int, neither: int) -> Difference:
    """Difference of two shares of the same images (interval: Newcombe 1998b, method 10; p: `mcnemar`).

    both, neither: images that both models or none of them read right; gained, lost: see `mcnemar`.
    Raises ValueError for no images. The interval is not the test's inverse: near 5 % they may disagree.
    """
    n = both + gained + lost + neither
    before, after = both + lost, both + gained
    first, second = wilson(before, n), wilson(after, n)
    # How alike the two models read, as a correlation; corrected for continuity where positive.
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
    first: NDArray[np.int64], second: NDArray[np.int64], characters: NDArray[np.int64], seed: int
) -> Difference:
    """Difference of two CERs on the same images, by resampling images (Efron & Tibshirani 1993, 13.3 and 16.4).

    first, second: [N] edits of each model; characters: [N] of the labels. The interval is the
    percentile one; p is the share of resamples that stray from the difference by as much as that is from
    nought. The same images give the same numbers in any order.
    """
    kinds, counts = np.unique(np.stack([first, second, characters]), axis=1, return_counts=True)
    change, length = kinds[1] - kinds[0], kinds[2]
    value = float(counts @ change / (counts @ length))
    drawn = resample(counts, _RESAMPLES, seed)
    resampled = (drawn @ change) / (drawn @ length)
    low, high = np.quantile(resampled, TAILS)
    # The slack is for ties that rounding would part.
    stray = np.count_nonzero(np.abs(resampled - value) >= abs(value) * (1 - 1e-9))
    return Difference(value, float(low), float(high), (stray + 1) / (_RESAMPLES + 1))


def two_proportions(k1: int, n1: int, k2: int, n2: int) -> Difference:
    """Difference of two shares of unrelated images: k1 of n1, then k2 of n2.

    Interval: Newcombe 1998a, method 10. p: score test of Miettinen & Nurminen 1985. On the same images both
    are wider than need be, as they do not know that an image hard for one model is hard for the other.
    """
    # Takes a second to import, and the usual comparison is of the same images.
    from statsmodels.stats.proportion import confint_proportions_2indep, score_test_proportions_2indep

    low, high = confint_proportions_2indep(k2, n2, k1, n1, method="newcomb", compare="diff")
    # Where all are right, or all wrong, the test divides nought by nought.
    constant = k1 + k2 in (0, n1 + n2)
    p = 1.0 if constant else score_test_proportions_2indep(k2, n2, k1, n1, return_results=False)[1]
    return Difference(k2 / n2 - k1 / n1, float(low), float(high), float(p))
