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


def effective_size(images: int, squares: int) -> float:
    """How many independent images carry as much as `images` in groups of near-duplicates (Kish 1965, section 8.2).

    squares: the sum of the squared sizes of the groups. Near-duplicates are taken to be read alike, all or none.
    """
    return images * images / squares


def wilson(successes: int, trials: int, size: float | None = None) -> Interval:
    """Wilson's 95 % interval of a proportion (Wilson 1927). Raises ValueError if there are no trials.

    size: the effective size of the sample where trials are not independent; by default all trials.
    """
    if trials < 1:
        raise ValueError("no trials")
    z, n = NormalDist().inv_cdf(TAILS[1]), trials if size is None else size
    share = successes / trials
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Exactly 0 and 1 at the ends, which rounding could miss.
    low, high = 0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half
    return Interval(low, high)


def edit_intervals(images: Mapping[tuple[int, int], int], size: float | None = None) -> EditIntervals:
    """Percentile bootstrap over images (Efron & Tibshirani 1993, 13.3). images: (edits, characters) -> how many.

    Whole images are drawn, since the errors within an image are correlated. size: how many, the effective size; all by
    default. If all images are read equally well, all resamples are equal. That does not prove certainty, so there is no
    interval.
    """
    kinds = sorted(images)
    edits, characters = np.array(kinds, np.int64).T
    drawn = None if size is None else max(1, round(size))
    resamples = resample(np.array([images[kind] for kind in kinds], np.int64), _RESAMPLES, _SEED, drawn)
    errors = resamples @ edits
    return EditIntervals(
        cer=_percentile(errors / (resamples @ characters)),
        mean_edit_distance=_percentile(errors / resamples.sum(axis=1)),
    )


def resample(counts: NDArray[np.int64], times: int, seed: int, size: int | None = None) -> NDArray[np.int64]:
    """Bootstrap resamples, each of `size` images: [times, K], the number of images of each of K kinds.

    counts: [K] images of each kind. size: as many as there are, by default. Images of one kind are equal, so this is
    the bootstrap over single images. The order of the kinds changes what is drawn: sort them.
    """
    total = int(counts.sum())
    return np.random.default_rng(seed).multinomial(total if size is None else size, counts / total, size=times)


def _percentile(values: NDArray[np.float64]) -> Interval | None:
    low, high = np.quantile(values, TAILS)
    return Interval(float(low), float(high)) if low < high else None
