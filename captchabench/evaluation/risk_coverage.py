"""How much a recogniser reads if it may leave out what it is least sure of: precision against coverage."""

from dataclasses import dataclass

import numpy as np

# Precision at which an unattended reader is called usable.
TARGET = (99, 100)
POINTS = 60


@dataclass(frozen=True)
class RiskCoverage:
    """What is read at every distinct confidence, most confident first (El-Yaniv & Wiener 2010).

    thresholds: [K] float32, falling: images at least so sure are read; read, right: [K] int64, how many those
    are and how many of them are exact. Images of equal confidence are read together or not at all.
    """

    thresholds: np.ndarray
    read: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, confidences: np.ndarray, right: np.ndarray) -> "RiskCoverage":
        """confidences: [N] float32 from 0 to 1; right: [N] bool; at least one image."""
        values, inverse, counts = np.unique(confidences, return_inverse=True, return_counts=True)
        hits = np.bincount(inverse, weights=right, minlength=len(values)).astype(np.int64)
        return cls(values[::-1], np.cumsum(counts[::-1]), np.cumsum(hits[::-1]))

    def at_target(self) -> int | None:
        """Index of the largest share that is read with at least the target's precision; None if there is none."""
        numerator, denominator = TARGET
        found = np.flatnonzero(self.right * denominator >= self.read * numerator)
        return int(found[-1]) if len(found) else None

    def thinned(self) -> "RiskCoverage":
        """At most POINTS of the points, evenly spread over coverage; the last and that of the target are kept."""
        wanted = np.linspace(0, self.read[-1], POINTS - 1)
        kept = set(np.searchsorted(self.read, wanted).tolist())
        target = self.at_target()
        chosen = sorted(kept if target is None else kept | {target})
        return RiskCoverage(self.thresholds[chosen], self.read[chosen], self.right[chosen])
