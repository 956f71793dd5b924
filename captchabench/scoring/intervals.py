"""How sure a number is: 95 % intervals of proportions, and of rates by resampling images."""

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
    """Of edits per character, and of edits per image; None where no two images differ."""

    cer: Interval | None
    mean_edit_distance: Interval | None


def wilson(successes: int, trials: int) -> Interval:
    """95 % interval of a proportion (Wilson 1927). Raises ValueError for no trials."""
    if trials < 1:
        raise ValueError("no trials")
    z = NormalDist().inv_cdf(TAILS[1])
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding must not leave an end where none is right, or none is wrong.
    low, high = 0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half
    return Interval(low, high)


def edit_intervals(images: Mapping[tuple[int, int], int]) -> EditIntervals:
    """Percentile bootstrap by image (Efron & Tibshirani 1993, 13.3). images: (edits, characters) -> how many.

    Images are drawn whole, as one image's errors come together. Where all images are read equally well or
    badly, all resamples are alike: that is no proof of certainty, so there is no interval.
    """
    kinds = sorted(images)
    edits, characters = np.array(kinds, np.int64).T
    drawn = resample(np.array([images[kind] for kind in kinds], np.int64), _RESAMPLES, _SEED)
    errors = drawn @ edits
    return EditIntervals(_percentile(errors / (drawn @ characters)), _percentile(errors / drawn.sum(axis=1)))


def resample(counts: NDArray[np.int64], times: int, seed: int) -> NDArray[np.int64]:
    """Draw as many images as there are, with replacement, again and again: [times, K] images of each of K kinds.

    counts: [K] images of each kind. Images of one kind are alike, so this is the bootstrap over all images
    in K columns. A kind's place decides what is drawn of it: sort the kinds.
    """
    return np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=times)


def _percentile(values: NDArray[np.float64]) -> Interval | None:
    low, high = np.quantile(values, TAILS)
    return Interval(float(low), float(high)) if low < high else None
