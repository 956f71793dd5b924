"""Fixed-point warps: maps are in 1/32 pixel, like OpenCV's bilinear interpolation of bytes."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

STEPS = 32  # per pixel
UNIT = 1 << 14  # 1.0 in fixed point
PERIOD = 1024  # steps per full turn

Maps = tuple[NDArray[np.int16], NDArray[np.uint16]]

# Two periods, so that a period from any phase is a slice. Computed with math.sin, since numpy's may differ in the last
# bit between processors.
_SINE = np.array([round(UNIT * math.sin(2 * math.pi * i / PERIOD)) for i in range(2 * PERIOD)], np.int32)


def wave(phase: int, height: int) -> NDArray[np.int16]:
    """One period of a sine in 1024 steps: [1024], in 1/32 pixel.

    phase: of the first value, in 1/1024 turn, below 1024. height: the amplitude, in 1/32 pixel.
    """
    return (height * _SINE[phase : phase + PERIOD] // UNIT).astype(np.int16)


def turn(degrees: int) -> tuple[int, int]:
    """Cosine and sine of an angle, in 1/16384."""
    angle = math.radians(degrees)
    return round(UNIT * math.cos(angle)), round(UNIT * math.sin(angle))


def split(x: NDArray[np.signedinteger], y: NDArray[np.signedinteger]) -> Maps:
    """The maps of cv2.remap: whole pixels int16 [h, w, 2] and fractions uint16 [h, w].

    x, y: [h, w], the source of each pixel, in 1/32 pixel.
    """
    whole = np.empty((*x.shape, 2), np.int16)
    np.right_shift(x, 5, out=whole[..., 0], casting="unsafe")
    np.right_shift(y, 5, out=whole[..., 1], casting="unsafe")
    return whole, ((y & 31) << 5 | (x & 31)).astype(np.uint16)


def warp(image: NDArray[np.uint8], maps: Maps, outside: Sequence[int] = (0,)) -> NDArray[np.uint8]:
    """`image` sampled at `maps`, see `split`. Points outside the image have the colour `outside`."""
    warped: NDArray[np.uint8] = cv2.remap(
        image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )
    return warped
