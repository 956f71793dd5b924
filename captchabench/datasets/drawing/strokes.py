"""Hard-edged lines of exact width, and curves made of a few straight segments."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SHIFT = 4  # coordinates in 1/16 pixel
_SOFT_EDGE = 21  # width that OpenCV's antialiasing adds to a polygon, in 1/16 pixel


def _bernstein(segments: int) -> NDArray[np.int64]:
    """Weights of a cubic's control points at the ends of equal `segments`, in 1/segments**3: [segments + 1, 4]."""
    steps = [(k, segments - k) for k in range(segments + 1)]
    return np.array([[u**3, 3 * t * u * u, 3 * t * t * u, t**3] for t, u in steps], np.int64)


_WEIGHTS = {segments: _bernstein(segments) for segments in (1, 2, 4)}


def curve(canvas: NDArray[np.uint8], xs: Sequence[int], ys: Sequence[int], widths: Sequence[int]) -> None:
    """Draw a cubic Bezier curve in full ink, antialiased and with square ends, on `canvas` [h, w].

    xs, ys: of the four control points, in pixels. The curve has 1, 2 or 4 straight segments, depending on how much it
    bends. widths: of the segments, in 1/16 pixel; the last one applies to all further segments.
    """
    bend = max(abs(ys[0] - 2 * ys[1] + ys[2]), abs(ys[1] - 2 * ys[2] + ys[3]))
    segments = 1 if bend < 4 else 2 if bend < 12 else 4
    points = np.array((xs, ys), np.int64).T << _SHIFT
    corners = (_WEIGHTS[segments] @ points // segments**3).tolist()
    for k in range(segments):
        _segment(canvas, corners[k], corners[k + 1], widths[min(k, len(widths) - 1)])


def _segment(canvas: NDArray[np.uint8], start: list[int], end: list[int], width: int) -> None:
    """Draw a straight segment as a filled rectangle; all in 1/16 pixel."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(math.isqrt(dx * dx + dy * dy), 1)
    half = max(width - _SOFT_EDGE, 0) // 2
    ox, oy = -dy * half // length, dx * half // length
    corners = (
        (start[0] + ox, start[1] + oy),
        (end[0] + ox, end[1] + oy),
        (end[0] - ox, end[1] - oy),
        (start[0] - ox, start[1] - oy),
    )
    cv2.fillConvexPoly(canvas, np.array(corners, np.int32), 255, cv2.LINE_AA, _SHIFT)


def jagged(canvas: NDArray[np.uint8], start: tuple[int, int], end: tuple[int, int], width: int, value: int) -> None:
    """Draw a line without antialiasing on `canvas` [h, w].

    width: in pixels, measured vertically for a flat line and horizontally for a steep one.
    """
    flat = abs(end[0] - start[0]) >= abs(end[1] - start[1])
    for k in range(-(width // 2), width - width // 2):
        dx, dy = (0, k) if flat else (k, 0)
        cv2.line(canvas, (start[0] + dx, start[1] + dy), (end[0] + dx, end[1] + dy), value)
