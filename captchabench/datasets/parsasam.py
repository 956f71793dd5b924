"""CAPTCHA dataset of parsasam: coloured, rotated and warped letters between lines, often inverted or tinted.

The stand-ins are drawn in the steps of the PHP generator that made the dataset, with its default settings.
"""

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.datasets.drawing import encode, strokes, warps
from captchabench.datasets.drawing.dice import Roll, dice
from captchabench.datasets.drawing.glyphs import Face, Glyph, glyph, paste

HEIGHT, WIDTH = 40, 150
_SYMBOLS = "123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnpqrstuvwxyz"
_QUALITY = 90


class _Style(NamedTuple):
    """A font and how it is used. size: the largest, in pixels per em. widened: horizontal scale in per cent."""

    face: Face
    size: int
    widened: int


# As in the original's six fonts, one draws lower case as capitals and another draws l and I alike. No reader can
# distinguish them, so case-sensitive exact match has a ceiling below 100 %.
_STYLES = (
    _Style(Face("font_hanken_grotesk", "HankenGrotesk-Medium.otf", capitals=True), 38, 96),
    _Style(Face("font_manrope", "Manrope-Medium.ttf"), 38, 92),  # l and I alike
    _Style(Face("font_caladea", "Caladea-Regular.ttf"), 40, 94),
    _Style(Face("font_hanken_grotesk", "HankenGrotesk-Medium.otf"), 38, 92),
    _Style(Face("font_intuitive", "Intuitive.ttf"), 39, 104),
    _Style(Face("font_source_serif_pro", "SourceSerifPro-Regular.ttf"), 39, 92),
)

# Glyphs are rotated within a square box, around the pen's position (x, y) in it.
_BOX, _PEN = 96, (24, 64)
_MARGIN = 7  # pixels by which a corner can leave the level glyph's rectangle
_X, _Y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
_EDGES = np.array([[-1, 0, -1], [0, 4, 0], [-1, 0, -1]], np.float32)
_COVERAGE = np.arange(64)[:, None, None]


@cache
def _turn(widened: int, degrees: int) -> warps.Maps:
    """Maps that widen a glyph to `widened` per cent and rotate it around its pen."""
    cos, sin = warps.turn(degrees)
    x, y = np.arange(_BOX) - _PEN[0], np.arange(_BOX)[:, None] - _PEN[1]
    source_x = (x * cos - y * sin) * 100 * warps.STEPS // (widened * warps.UNIT)
    source_y = (x * sin + y * cos) * warps.STEPS // warps.UNIT
    return warps.split(source_x + _PEN[0] * warps.STEPS, source_y + _PEN[1] * warps.STEPS)


@cache
def _turned(style: _Style, size: int, symbol: str, degrees: int) -> Glyph:
    """A glyph, widened and rotated. Its advance is the width of its ink."""
    flat = glyph(style.face, size, symbol)
    box = np.zeros((_BOX, _BOX), np.uint8)
    paste(box, flat.mask, _PEN[0] + flat.left, _PEN[1] + flat.top)
    height, width = flat.mask.shape
    left = _PEN[0] + flat.left * style.widened // 100 - _MARGIN
    top = _PEN[1] + flat.top - _MARGIN
    right = left + width * style.widened // 100 + 2 * _MARGIN
    window = (slice(top, top + height + 2 * _MARGIN), slice(left, right))
    whole, fraction = _turn(style.widened, degrees)
    turned = warps.warp(box, (whole[window], fraction[window]))
    x, y, width, height = cv2.boundingRect(turned)
    mask = turned[y : y + height, x : x + width].copy()
    mask.setflags(write=False)
    return Glyph(mask, left + x - _PEN[0], top + y - _PEN[1], width)


def _line(canvas: NDArray[np.uint8], roll: Roll, value: int) -> None:
    """Draw a line from the left half to the right half, or from the upper half to the lower half."""
    if roll(2):
        start, end = (roll(WIDTH // 2), roll(HEIGHT)), (WIDTH // 2 + roll(WIDTH // 2), roll(HEIGHT))
    else:
        start, end = (roll(WIDTH), roll(HEIGHT // 2)), (roll(WIDTH), HEIGHT // 2 + roll(HEIGHT // 2))
    strokes.jagged(canvas, start, end, 1 + roll(3), value)


def _write(label: str, roll: Roll) -> NDArray[np.uint8]:
    """The letters and the lines in front of them, as coverage [H, W]."""
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    style = _STYLES[roll(len(_STYLES))]
    size = style.size - roll(4)
    shapes = [_turned(style, size, symbol, 2 * roll(9) - 8) for symbol in label]
    pen = (WIDTH - sum(shape.advance for shape in shapes)) // 2
    for shape in shapes:
        paste(ink, shape.mask, pen, 28 + roll(11) + shape.top)
        pen += shape.advance
    for _ in range(2 + roll(2)):
        _line(ink, roll, 255)
    return ink


@cache
def _push() -> NDArray[np.int32]:
    """How far the radial warp moves a pixel, by its squared distance from the centre: [W * W + H * H].

    A pixel at distance r shows the one at r + 4 sin(r / 30). The values are fractions of r, in 1/16384.
    """
    radii = [math.sqrt(square) for square in range(1, WIDTH**2 + HEIGHT**2)]
    fractions = [4 / 30] + [4 * math.sin(r / 30) / r for r in radii]
    return np.array([round(warps.UNIT * fraction) for fraction in fractions], np.int32)


@cache
def _radial(x0: int, y0: int) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
    """The radial warp around (x0, y0).

    Returns the points shown, x and y in 1/32 pixel, and the wave's angle at each, 0.2 x, in 1/1024 turn.
    """
    dx, dy = _X - x0, _Y - y0
    push = _push()[dx * dx + dy * dy]
    x = _X * warps.STEPS + push * dx * warps.STEPS // warps.UNIT
    y = _Y * warps.STEPS + push * dy * warps.STEPS // warps.UNIT
    angle = x * 1043 // 1024 % warps.PERIOD  # 0.2 / 32 radians are 1.0186 / 1024 turns
    return x.astype(np.int16), y.astype(np.int16), angle


def _maps(roll: Roll) -> warps.Maps:
    """The radial warp around a random centre, then a vertical wave along x, 1.1 to 1.43 pixels high."""
    x, y, angle = _radial(5 + 10 * roll(WIDTH // 10), 2 + 5 * roll(HEIGHT // 5))
    return warps.split(x, y + warps.wave(roll(warps.PERIOD), 35 + roll(12))[angle])


@cache
def _contrast(percent: int) -> NDArray[np.uint8]:
    """Contrast multiplied by the square of `percent`, as a look-up table of levels [1, 256, 3]."""
    levels = (np.arange(256) - 127) * percent**2 // 10000 + 127
    return np.repeat(np.clip(levels, 0, 255).astype(np.uint8), 3).reshape(1, 256, 3)


def _colours(roll: Roll) -> tuple[NDArray[np.uint8], list[int]]:
    """The colours of the text, at 64 levels of coverage, over the background and over each of up to three lines.

    Returns them as [64 * 4, 1, 3], and the colour of the background.
    """
    background = [200 + roll(56) for _ in range(3)]
    behind = np.array([background] + [[100 + roll(156) for _ in range(3)] for _ in range(3)])
    text = np.array([roll(151) for _ in range(3)])
    return (behind + _COVERAGE * (text - behind) // 63).reshape(-1, 1, 3).astype(np.uint8), background


def draw(rng: np.random.Generator) -> Drawing:
    """One stand-in: five symbols, 150x40 colour JPEG."""
    roll = dice(rng)
    label = "".join(_SYMBOLS[roll(len(_SYMBOLS))] for _ in range(5))
    behind = np.zeros((HEIGHT, WIDTH), np.uint8)
    for k in range(2 + roll(2)):
        _line(behind, roll, k + 1)
    colours, background = _colours(roll)
    canvas = cv2.applyColorMap((_write(label, roll) & 0xFC) + behind, colours)
    canvas = warps.warp(canvas, _maps(roll), background)
    if roll(2):
        canvas = cv2.bitwise_not(canvas)
    if roll(11) == 0:
        canvas = cv2.filter2D(canvas, -1, _EDGES, delta=127)
    canvas = cv2.LUT(canvas, _contrast(90 + roll(61)))
    if roll(6) == 0:
        canvas = cv2.add(canvas, (roll(131) - 80, roll(131) - 80, roll(131) - 80, 0))
    return Drawing(label, encode.jpeg(canvas, _QUALITY), "jpg")


DATASETS.add(
    "parsasam",
    Dataset(
        key="parsasam",
        handle="parsasam/captcha-dataset",
        kaggle_version=1,  # the pinned version
        licence="not stated on the Kaggle page; check before use",
        images=113_062,
        symbols=_SYMBOLS,
        min_length=5,
        max_length=5,
        draw=draw,
        version=2,
        faces=tuple(style.face for style in _STYLES),
    ),
)
