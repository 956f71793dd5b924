"""Whole random numbers, cheaply one at a time."""

from collections.abc import Callable, Iterator

import numpy as np

Roll = Callable[[int], int]


def dice(rng: np.random.Generator) -> Roll:
    """A function that gives a whole number from 0 up to, not including, its argument.

    The argument is at most a few thousand. `rng` is asked for 64 numbers at a time, since a call for one
    costs it nearly as much.
    """

    def numbers() -> Iterator[int]:
        while True:
            yield from rng.integers(0, 1 << 30, 64).tolist()

    stream = numbers()
    return lambda sides: next(stream) % sides
