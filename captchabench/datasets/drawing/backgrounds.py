"""Random coloured backgrounds of tiles: smooth, blotched, striped or cluttered."""

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.datasets.drawing.dice import Roll

_SHIFT = 4  # coordinates in 1/16 pixel


def background(roll: Roll, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """A random background [side, side, 3] BGR."""
    knots = (2, 2, 3, 5, 9)[roll(5)]
    # Few knots make a gradient, many make blotches, whose colours are more similar.
    spread = 96 if knots < 4 else 64
    base = [roll(256 - spread) for _ in range(3)]
    coarse = (rng.integers(0, spread, (knots, knots, 3), np.uint8) + np.array(base, np.uint8)).astype(np.uint8)
    canvas: NDArray[np.uint8] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    kind = roll(4)
    if kind == 0:
        _stripes(roll, canvas)
    elif kind == 1:
        for _ in range(2 + roll(5)):
            _blob(roll, canvas)
    elif kind == 2:
        for _ in range(1 + roll(4)):
            bar(roll, canvas, 1 + roll(6))
    return canvas


def bar(roll: Roll, canvas: NDArray[np.uint8], width: int) -> None:
    """Draw a straight bar of a random colour, `width` pixels wide, anywhere on `canvas` [side, side, 3]."""
    side = len(canvas)
    ends = [(roll(side << _SHIFT), roll(side << _SHIFT)) for _ in range(2)]
    cv2.line(canvas, ends[0], ends[1], colour(roll), width, cv2.LINE_AA, _SHIFT)


def colour(roll: Roll) -> tuple[int, int, int]:
    """A random colour, BGR."""
    return roll(256), roll(256), roll(256)


def _stripes(roll: Roll, canvas: NDArray[np.uint8]) -> None:
    side = len(canvas)
    gap, width, lean, shade = 6 + roll(12), 1 + roll(4), roll(2 * side) - side, colour(roll)
    upright = roll(2)
    for start in range(-side, 2 * side, gap):
        ends = (start, 0), (start + lean, side)
        a, b = ends if upright else tuple((y, x) for x, y in ends)
        cv2.line(canvas, a, b, shade, width, cv2.LINE_AA)


def _blob(roll: Roll, canvas: NDArray[np.uint8]) -> None:
    side = len(canvas)
    axes = (2 + roll(side // 4), 2 + roll(side // 4))
    cv2.ellipse(canvas, (roll(side), roll(side)), axes, roll(180), 0, 360, colour(roll), -1, cv2.LINE_AA)
