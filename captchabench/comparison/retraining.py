"""The test of a change: a difference between two trained models against images and retraining together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, norm, t

# With fewer folds, their spread has too few degrees of freedom.
LEAST_FOLDS = 3
# The share of the images' variance that a small estimate of retraining cannot take away.
_FLOOR = 0.25
# Below this p, the normal score is the difference over its standard error. A bootstrap does not resolve smaller ones,
# and an exact test's are too small beside a variance of retraining that is much larger than that of images.
_RESOLVED, _TINY = 1e-3, 1e-300
POWER = 0.8

Metric = Literal["exact", "cer"]
METRICS: tuple[Metric, ...] = ("exact", "cer")
Basis = Literal["folds", "study", "assumed"]
# Intraclass correlation of the errors of one training, where it was not measured: five times the largest that measured
# cells are compatible with (docs/statistics.md). Such verdicts are provisional.
ASSUMED_ICC: Mapping[Metric, float] = {"exact": 0.02, "cer": 0.005}


@dataclass(frozen=True)
class Noise:
    """How far a value of one cell moves when nothing but the seed of its training changes.

    total: variance over trainings, on the same images. images: the part of it that chance on single images explains.
    trainings: how many were compared. spread: `image_spread` of their mean.
    """

    total: float
    images: float
    trainings: int
    spread: float

    def at(self, spread: float) -> Self:
        """The noise of a cell with another value, of this `image_spread`, and the same intraclass correlation.

        Near a ceiling, trainings that happen to be good differ little. Their variance alone would be too small for one
        that happens to be bad.
        """
        factor = spread / self.spread if self.spread else 1.0
        return replace(self, total=self.total * factor, images=self.images * factor, spread=spread)


@dataclass(frozen=True)
class Retraining:
    """The variance that retraining adds to a difference of two sides.

    excess: the added variance, an unbiased estimate that can be below 0. parts: (variance, degrees of freedom) of each
    independent estimate in it, the variance at least that of single images, below which the true one cannot be; none
    if it is assumed.
    """

    excess: float
    parts: tuple[tuple[float, float], ...]
    basis: Basis

    def total(self, images: float) -> float:
        """The variance of the difference. images: its variance over images."""
        return max(images + self.excess, _FLOOR * images)

    def degrees(self, images: float) -> float:
        """Degrees of freedom of `total` (Satterthwaite 1946), at least those of the weakest estimate."""
        spread = sum(variance**2 / df for variance, df in self.parts)
        if not spread:
            return math.inf
        return max(self.total(images) ** 2 / spread, min(df for _, df in self.parts))


@dataclass(frozen=True)
class Tested:
    """A tested difference: its value, standard error, degrees of freedom, p, and the smallest p that was possible."""

    value: float
    error: float
    degrees: float
    p: float
    attainable: float

    def interval(self, level: float) -> tuple[float, float]:
        """The interval that excludes 0 exactly where p is below `level` (test-based: Miettinen 1976)."""
        half = float(t.isf(level / 2, self.degrees)) * self.error
        return self.value - half, self.value + half


def image_spread(metric: Metric, value: float) -> float:
    """The variance of the result of a single image, up to a constant: p (1 - p), and for a CER from 0.5 on 0.25.

    A network that has not begun to read has a CER of 1 without any spread; one that is about to has a large one.
    """
    return 0.25 if metric == "cer" and value > 0.5 else value * (1 - value)


def measured(row: Mapping[str, Any]) -> dict[Metric, Noise]:
    """The noise in a row of metrics/noise.csv, whose values may be text."""
    return {
        metric: Noise(
            float(row[f"{metric}_sd"]) ** 2,
            float(row[f"{metric}_sd_images"]) ** 2,
            int(row["trainings"]),
            image_spread(metric, float(row[metric])),
        )
        for metric in METRICS
    }


def from_studies(old: Noise, new: Noise, folds: int, *, same: bool) -> Retraining:
    """From retrainings of both sides. folds: trainings of each side that are pooled. same: both are one estimate."""
    sides = (old,) if same else (old, new)
    times = 2 / len(sides) / folds
    parts = tuple((times * max(side.total, side.images), side.trainings - 1.0) for side in sides)
    return Retraining(sum(times * (side.total - side.images) for side in sides), parts, "study")


def from_folds(differences: Sequence[float], variances: Sequence[float]) -> Retraining:
    """From the differences of F paired folds, each of them with seeds of its own, and their variances over images."""
    folds = len(differences)
    spread, images = float(np.var(differences, ddof=1)) / folds, float(np.mean(variances)) / folds
    return Retraining(spread - images, ((max(spread, images), folds - 1.0),), "folds")


def assumed(metric: Metric, spread: float, folds: int) -> Retraining:
    """The variance of a difference if ASSUMED_ICC is the intraclass correlation. spread: `image_spread` of both."""
    return Retraining(2 * ASSUMED_ICC[metric] * spread / folds, (), "assumed")


def change_test(value: float, p: float, images: float, extreme: float, count: int, retraining: Retraining) -> Tested:
    """Test a difference against images and retraining together.

    p: of the test of the two trained models alone. images: the variance of `value` over `count` images, if the models
    are equal. extreme: the smallest p that this test could have given, such as with all images that differ on one side.
    """
    if not images:
        # No image differs. The interval is as wide as with one that does.
        return Tested(value, math.sqrt(retraining.total(1 / count**2)), math.inf, 1.0, 1.0)
    total, degrees = retraining.total(images), retraining.degrees(images)
    score = _score(value, p, images)
    limit = max(score, float(norm.isf(max(extreme, _TINY) / 2)))
    shrunk = math.sqrt(images / total)
    error = abs(value) / (score * shrunk) if value and score else math.sqrt(total)
    return Tested(value, error, degrees, *(float(2 * t.sf(s * shrunk, degrees)) for s in (score, limit)))


def nadeau_bengio(differences: Sequence[float], train_share: float) -> float:
    """The p of the corrected resampled t-test over F folds (Nadeau & Bengio 2003), which is also about training sets.

    train_share: images held out in a fold, over images trained on.
    """
    folds, mean = len(differences), float(np.mean(differences))
    variance = float(np.var(differences, ddof=1)) * (1 / folds + train_share)
    if not variance:
        return 1.0 if not mean else 0.0
    return float(2 * t.sf(abs(mean) / math.sqrt(variance), folds - 1))


def noncentrality(degrees: float, level: float) -> float:
    """How many standard errors a difference must be for the t-test to find it, and its sign, with probability POWER."""
    if math.isinf(degrees):
        return float(norm.isf(level / 2) + norm.ppf(POWER))
    critical = float(t.isf(level / 2, degrees))

    def missing(delta: float) -> float:
        return float(nct.sf(critical, degrees, delta)) - POWER

    return float(brentq(missing, 0.0, 2 * critical + 10.0, xtol=1e-12))


def detectable(images: int, differing: float, retraining: Retraining, level: float) -> float:
    """The smallest true difference of two shares that is found with probability POWER.

    images: how many were read. differing: the share of them that only one model read right; a larger difference makes
    it larger. For CER, the number of characters and, per character, the sum over images of squared changes of edits.
    """
    variance = differing / images
    factor = noncentrality(retraining.degrees(variance), level) ** 2
    smallest = math.sqrt(factor * max(retraining.total(variance), variance))
    if 0 < smallest <= differing:
        return smallest
    # Here the difference itself is the share that differs.
    half = factor / images / 2
    return half + math.sqrt(half**2 + factor * max(retraining.excess, 0.0))


def images_needed(wanted: float, images: int, differing: float, retraining: Retraining, level: float) -> int | None:
    """How many images find a true difference `wanted`, with as many trainings; None if no number of images does."""
    factor = noncentrality(retraining.degrees(differing / images), level) ** 2
    left = wanted**2 / factor - max(retraining.excess, 0.0)
    return math.ceil(max(differing, wanted) / left) if left > 0 else None


def trainings_needed(
    wanted: float, images: int, folds: int, differing: float, retraining: Retraining, level: float
) -> int | None:
    """How many trainings of each side find a true difference `wanted` on as many images; None if no number does."""
    variance = max(differing, wanted) / images
    factor = noncentrality(retraining.degrees(differing / images), level) ** 2
    left = wanted**2 / factor - variance
    return max(1, math.ceil(folds * max(retraining.excess, 0.0) / left)) if left > 0 else None


def _score(value: float, p: float, images: float) -> float:
    """The normal score of a two-sided p: how many standard errors of images `value` is from 0, 0 or more."""
    resolved = float(norm.isf(max(p, _RESOLVED) / 2))
    return max(resolved, abs(value) / math.sqrt(images)) if p < _RESOLVED else resolved
