"""Exact match against the number of training images: a fit, and what more images would bring.

The odds of an error fall with a power of the number of images, as errors do over a wide range (Hestness et al., "Deep
Learning Scaling is Predictable, Empirically", arXiv:1712.00409); odds instead of the error, so that a model that has
learned nothing yet fits as well. Two numbers are unknown: the odds at the largest size, and the exponent. Both are
integrated over a grid, with these beliefs about them before any image is read:

- the exponent is not negative, since more images never hurt; all values up to 3 are as likely, larger ones less;
- two trainings on equally many images differ by a standard deviation of 0.3 in the log odds of an error;
- one training in fifty fails, and reads any number of images below the curve;
- beyond the sizes measured, a steep start becomes flatter: of a fall of more than 1 in the log odds per doubling, half
  of what is above 1 goes on. The curve also bends by chance, each doubling by 0.3 and by 0.4 of its fall.

What is measured is a number of errors in a number of held-out images, so it is binomial around the curve.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captchabench.scoring.intervals import TAILS, Interval

_EXPONENTS = np.linspace(0, 8, 81)
# The fall of the log odds for each doubling of the number of images.
_FALLS = math.log(2) * _EXPONENTS
_BELIEFS = np.exp(-np.maximum(_EXPONENTS - 3, 0))
_LOG_ODDS = np.linspace(-9, 7, 161)
_SPREAD = 0.3
_BEND, _BEND_OF_FALL = 0.3, 0.4
_STEEP, _STEEP_GOES_ON = 1.0, 0.5
_FAILED = 0.02
# Abscissae and weights for a normal distribution.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
# The largest number of images that is named as needed, as a multiple of those at hand.
_FURTHEST = 8


@dataclass(frozen=True)
class Point:
    """What a model trained on `images` read: `right` of `total` held-out images, or tiles."""

    images: int
    right: int
    total: int


@dataclass(frozen=True)
class Forecast:
    """The share that a model trained on `images` would read.

    share: the median. interval: 95 % of what it would read of as many held-out images as were read by the last point.
    """

    images: int
    share: float
    interval: Interval


class Curve:
    """The fit to points of one set: at least two, of different sizes, sorted. Raises ValueError otherwise."""

    def __init__(self, points: Sequence[Point]) -> None:
        sizes = [point.images for point in points]
        if len(points) < 2 or sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise ValueError(f"at least two different sizes, sorted; got {sizes}")
        self.points = tuple(points)
        self._last = points[-1]
        log_likelihood = np.sum([self._log_likelihood(point) for point in points], axis=0)
        posterior = np.exp(log_likelihood - log_likelihood.max()) * _BELIEFS[:, None]
        self._posterior: NDArray[np.float64] = posterior / posterior.sum()

    def at(self, images: int) -> Forecast:
        """The forecast for a model trained on this many images."""
        log_odds, weights = self._errors_at(images)
        order = np.argsort(log_odds, kind="stable")
        below = np.cumsum(weights[order])
        median = float(log_odds[order][np.searchsorted(below, 0.5)])
        total = self._last.total
        errors = np.arange(total + 1)
        # The distribution of the number of errors. Log odds are binned by 0.05, which is far finer than their spread.
        bins, index = np.unique(np.round(20 * log_odds) / 20, return_inverse=True)
        of_bin = np.bincount(index, weights)
        chosen = of_bin > 1e-7
        predicted = of_bin[chosen] @ np.exp(_log_binomial(errors[None, :], total, bins[chosen][:, None]))
        cumulated = np.cumsum((1 - _FAILED) * predicted / predicted.sum() + _FAILED / len(errors))
        fewest, most = (min(int(np.searchsorted(cumulated, tail)), total) for tail in TAILS)
        return Forecast(images, 1 - _expit(median), Interval(1 - most / total, 1 - fewest / total))

    def needed(self, share: float) -> int | None:
        """The number of training images at which the median forecast reaches `share`, two digits; None if too many.

        At most eight times the images at hand are named.
        """
        size = float(self._last.images)
        while size <= _FURTHEST * self._last.images:
            if self.at(round(size)).share >= share:
                digits = max(0, math.floor(math.log10(size)) - 1)
                return int(math.ceil(size / 10**digits) * 10**digits)
            size *= 2**0.125
        return None

    def _line(self, images: int) -> NDArray[np.float64]:
        """The log odds of an error at `images`, for each exponent and each value at the last size: [E, O]."""
        doublings = math.log2(images / self._last.images)
        falls = _FALLS if doublings < 0 else np.minimum(_FALLS, _STEEP + _STEEP_GOES_ON * (_FALLS - _STEEP))
        line: NDArray[np.float64] = _LOG_ODDS[None, :] - falls[:, None] * doublings
        return line

    def _log_likelihood(self, point: Point) -> NDArray[np.float64]:
        """The log probability of a point, for each exponent and value: [E, O]."""
        line = self._line(point.images)
        around = line[..., None] + _SPREAD * _NODES
        likelihood = np.exp(_log_binomial(np.array(point.total - point.right), point.total, around)) @ _WEIGHTS
        expected = point.total / (1 + np.exp(line))
        failed = (point.right <= expected) / (expected + 1)
        result: NDArray[np.float64] = np.log((1 - _FAILED) * likelihood + _FAILED * failed + 1e-300)
        return result

    def _errors_at(self, images: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log odds of an error at `images`, and their probabilities: [N] each."""
        beyond = max(0.0, math.log2(images / self._last.images))
        spreads = np.sqrt(_SPREAD**2 + beyond**2 * (_BEND**2 + (_BEND_OF_FALL * _FALLS) ** 2))
        log_odds = self._line(images)[..., None] + spreads[:, None, None] * _NODES
        weights = self._posterior[..., None] * _WEIGHTS
        return log_odds.ravel(), weights.ravel()


def _log_binomial(errors: NDArray[np.int64], total: int, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log probability of so many errors in `total`; arguments are broadcast."""
    from scipy.special import gammaln

    ways = gammaln(total + 1) - gammaln(errors + 1) - gammaln(total - errors + 1)
    # log p and log (1 - p) of the probability with these log odds.
    log_p, log_q = -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)
    result: NDArray[np.float64] = ways + errors * log_p + (total - errors) * log_q
    return result


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))
