"""95 % confidence intervals: Wilson's for proportions, and the bootstrap over images for error rates."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TAILS = (0.025, 0.975)
_RESAMPLES = 2000
_SEED = 0


class Interval(NamedTuple):
    """Both ends of a 95 % interval."""

    low: float
    high: float


class EditIntervals(NamedTuple):
    """Intervals of edits per character and of edits per image; None where all resamples are equal."""

    cer: Interval | None
    mean_edit_distance: Interval | None


def wilson(successes: int, trials: int) -> Interval:
    """Wilson's 95 % interval of a proportion (Wilson 1927). Raises ValueError if there are no trials."""
    if trials < 1:
        raise ValueError("no trials")
    z = NormalDist().inv_cdf(TAILS[1])
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Exactly 0 and 1 at the ends, which rounding could miss.
    low, high = 0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half
    return Interval(low, high)


def edit_intervals(images: Mapping[tuple[int, int], int]) -> EditIntervals:
    """Percentile bootstrap over images (Efron & Tibshirani 1993, 13.3). images: (edits, characters) -> how many.

    Whole images are drawn, since the errors within an image are correlated. If all images are read equally well, all
    resamples are equal. That does not prove certainty, so there is no interval.
    """
    kinds = sorted(images)
    edits, characters = np.array(kinds, np.int64).T
    resamples = resample(np.array([images[kind] for kind in kinds], np.int64), _RESAMPLES, _SEED)
    errors = resamples @ edits
    return EditIntervals(
        cer=_percentile(errors / (resamples @ characters)),
        mean_edit_distance=_percentile(errors / resamples.sum(axis=1)),
    )


def resample(counts: NDArray[np.int64], times: int, seed: int) -> NDArray[np.int64]:
    """Bootstrap resamples, each of as many images as there are: [times, K], the number of images of each of K kinds.

    counts: [K] images of each kind. Images of one kind are equal, so this is the bootstrap over single images. The
    order of the kinds changes what is drawn: sort them.
    """
    return np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=times)


def _percentile(values: NDArray[np.float64]) -> Interval | None:
    low, high = np.quantile(values, TAILS)
    return Interval(float(low), float(high)) if low < high else None
