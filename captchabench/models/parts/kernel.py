"""Least-squares support vector machines with a Gaussian kernel, without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import solve

# Of the kernel, in units of the features' overall standard deviation times the root of their number.
_WIDTH = 1.4
_CHUNK = 4096


@dataclass(frozen=True)
class KernelMachine:
    """One machine against the rest for each of K symbols, on D features.

    A Gaussian kernel is approximated by R random cosines (Rahimi and Recht, NIPS 2007); the features themselves stand
    beside them. mean: [D]. directions: [D, R]. phases: [R]. weights: [R + D + 1, K]. All are float32.
    """

    mean: np.ndarray
    directions: np.ndarray
    phases: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, classes: np.ndarray, cosines: int, ridge: float, seed: int) -> Self:
        """Learn from features [M, D] float32 and their rows of K symbols, `classes` [M] int64.

        The squared errors from 1 for a symbol and 0 for the others are minimised (least-squares SVM: Suykens and
        Vandewalle, Neural Processing Letters 9, 1999). ridge: in units of the mean square of a column.
        """
        size = features.shape[1]
        generator = np.random.default_rng(seed)
        scale = _WIDTH * max(float(features.std()), 1e-6) * np.sqrt(size)
        directions = (generator.standard_normal((size, cosines)) / scale).astype(np.float32)
        phases = generator.uniform(0, 2 * np.pi, cosines).astype(np.float32)
        count = int(classes.max()) + 1
        machine = cls(features.mean(axis=0), directions, phases, np.zeros((cosines + size + 1, count), np.float32))
        gram = np.zeros((cosines + size + 1, cosines + size + 1))
        moments = np.zeros((cosines + size + 1, count))
        for rows in _chunks(len(features)):
            mapped = machine._map(features[rows])
            gram += mapped.T @ mapped
            moments += mapped.T @ np.eye(count, dtype=np.float32)[classes[rows]]
        gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram)
        machine.weights[:] = solve(gram, moments, assume_a="pos")
        return machine

    def margins(self, features: np.ndarray) -> np.ndarray:
        """[M, D] float32 to [M, K] float32."""
        margins = np.empty((len(features), self.weights.shape[1]), np.float32)
        for rows in _chunks(len(features)):
            margins[rows] = self._map(features[rows]) @ self.weights
        return margins

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it holds, by name."""
        return {name: getattr(self, name) for name in NAMES}

    def fits(self, size: int, cosines: int, count: int) -> bool:
        """Whether the arrays are those of a machine for `count` symbols, with so many features and cosines."""
        shapes = ((size,), (size, cosines), (cosines,), (cosines + size + 1, count))
        found = self.arrays().values()
        return all(a.shape == s and a.dtype == np.float32 for a, s in zip(found, shapes, strict=True))

    def _map(self, features: np.ndarray) -> np.ndarray:
        """Cosines, features and a one: [M, D] to [M, R + D + 1] float32."""
        centred = features - self.mean
        one = np.ones((len(features), 1), np.float32)
        return np.concatenate([np.cos(centred @ self.directions + self.phases), centred, one], axis=1)


NAMES = ("mean", "directions", "phases", "weights")


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
