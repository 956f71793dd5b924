"""Reliability bins and the expected calibration error: is a confidence of 0.9 right nine times in ten?"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Sums over `BINS` equal-width bins of confidence. Bin i holds confidences above i/BINS, up to (i+1)/BINS.

    samples, exact: numbers of images; confidence: sums of confidences. A confidence of 0 is in the first bin.
    """

    samples: tuple[int, ...]
    exact: tuple[int, ...]
    confidence: tuple[float, ...]

    @classmethod
    def of(cls, confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> Self:
        """Sort N samples into bins. confidences: [N] from 0 to 1; right: [N]."""
        values = np.asarray(confidences, np.float64)
        bins = np.clip(np.ceil(values * BINS).astype(int) - 1, 0, BINS - 1)
        return cls(
            tuple(np.bincount(bins, minlength=BINS).tolist()),
            tuple(np.bincount(bins[right], minlength=BINS).tolist()),
            # Exactly rounded sums do not depend on the order of the samples.
            tuple(math.fsum(values[bins == i]) for i in range(BINS)),
        )

    def __add__(self, other: Self) -> "Reliability":
        return Reliability(
            tuple(a + b for a, b in zip(self.samples, other.samples, strict=True)),
            tuple(a + b for a, b in zip(self.exact, other.exact, strict=True)),
            tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
        )


def expected_calibration_error(bins: Reliability) -> float:
    """Mean distance between confidence and accuracy, each bin weighted by its samples (Guo et al. 2017)."""
    gaps = (abs(exact - confidence) for exact, confidence in zip(bins.exact, bins.confidence, strict=True))
    return math.fsum(gaps) / sum(bins.samples)
