"""Correction for several tests in one table."""

from collections.abc import Sequence

import numpy as np


def can_be_significant(attainable: Sequence[float], level: float) -> list[bool]:
    """Which of several tests can reach the corrected level at all (Tarone 1990); the others are not tested.

    attainable: the smallest p that each test could have given, whatever its outcome. With K tests left, all of them can
    reach level / K, and K is the smallest such number.
    """
    for kept in range(1, len(attainable) + 1):
        within = [p <= level / kept for p in attainable]
        if sum(within) <= kept:
            return within
    return [False] * len(attainable)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the same order. At 5 %, the chance of one or more false findings is at most 5 % (Holm 1979).

    p_values: of the comparisons that were made; leave out those without a p-value.
    """
    return [min(p, 1.0) for p in holm_unlimited(p_values)]


def holm_unlimited(p_values: Sequence[float]) -> list[float]:
    """As `holm`, but values may exceed 1: divided by p, they say how much stricter each test has become."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    unlimited: list[float] = adjusted.tolist()
    return unlimited
