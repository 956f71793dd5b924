"""Random integers, drawn one at a time at low cost."""

from collections.abc import Callable, Iterator

import numpy as np

Roll = Callable[[int], int]


def dice(rng: np.random.Generator) -> Roll:
    """A function that returns a random integer from 0 up to, not including, its argument.

    The argument should be at most a few thousand, so that the modulo causes no visible bias. Numbers are drawn from
    `rng` 64 at a time, since drawing one takes nearly as long.
    """

    def numbers() -> Iterator[int]:
        while True:
            yield from rng.integers(0, 1 << 30, 64).tolist()

    stream = numbers()
    return lambda sides: next(stream) % sides
