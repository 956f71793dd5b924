"""CAPTCHA Version 2 images: bold touching letters on a grey gradient, distorted in the middle, with a hooked curve.

The original draws each letter in one of two fonts, a proportional and a monospaced one. No package has them. The
stand-in draws each letter in one of six similar faces, and varies size and width a little.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.datasets.drawing import encode, strokes, warps
from captchabench.datasets.drawing.dice import Roll, dice
from captchabench.datasets.drawing.glyphs import Face, Glyph, paste, widened

HEIGHT, WIDTH = 50, 200
_LEFT, _BASELINE = 30, 42


class _Style(NamedTuple):
    """A face, its usual size in pixels per em, and the width of its letters in per cent of their normal width."""

    face: Face
    size: int
    widened: int


_STYLES = (
    _Style(Face("font_source_sans_pro", "SourceSansPro-Semibold.ttf"), 46, 104),
    _Style(Face("font_source_sans_pro", "SourceSansPro-Bold.ttf"), 45, 103),
    _Style(Face("font_source_sans_pro", "SourceSansPro-Black.ttf"), 45, 99),
    _Style(Face("font_hanken_grotesk", "HankenGrotesk-Bold.otf"), 43, 98),
    _Style(Face("font_manrope", "Manrope-Bold.ttf"), 40, 104),
    _Style(Face("font_manrope", "Manrope-ExtraBold.ttf"), 40, 101),
)
_FOR_G = _STYLES[4:]  # the `g` of the others has two bowls, unlike the original's
# The widths of these letters differ most between the two fonts. In per cent of the width above.
_TWO_WIDTHS = {"f": (96, 118), "m": (64, 98), "w": (68, 92)}
# In the published labels `n` is twice as frequent as any other symbol.
_DRAWN_FROM = "2345678bcdefgmnnpwxy"
_WIDTHS = (58, 43, 29)  # of the curve's segments, in 1/16 pixel: thick at the left, then thinner


def _ripple(x: int, y: int) -> tuple[float, float]:
    """A weak wave in both directions."""
    return x + 2.6 * math.sin(y / 15), y + 1.7 * math.sin(x / 5)


def _rings(x: int, y: int) -> tuple[float, float]:
    """Rings around the centre, so narrow that the pixel grid breaks edges into dots."""
    dx, dy = x - WIDTH / 2, y - HEIGHT / 2
    r = math.hypot(dx, dy)
    if not 0 < r < 50:
        return x, y
    push = 3 * math.sin(math.pi * r - 10) * (50 - r) / 50 / r
    return x + dx * push, y + dy * push


@cache
def _maps(source: Callable[[int, int], tuple[float, float]]) -> warps.Maps:
    """Maps that give each pixel (x, y) the value at `source(x, y)`. They are the same for every image."""
    points = [[source(x, y) for x in range(WIDTH)] for y in range(HEIGHT)]
    fixed = np.array([[[round(v * warps.STEPS) for v in p] for p in row] for row in points], np.int32)
    return warps.split(fixed[..., 0], fixed[..., 1])


@cache
def _gradient() -> NDArray[np.uint16]:
    """The background [H, W]: a gradient from 192 in the upper left corner to 255 in the lower right."""
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    return (192 + 63 * (x * WIDTH + y * HEIGHT) // (WIDTH**2 + HEIGHT**2)).astype(np.uint16)


def _letter(symbol: str, roll: Roll) -> Glyph:
    """`symbol` in any of the styles."""
    styles = _FOR_G if symbol == "g" else _STYLES
    style = styles[roll(len(styles))]
    percent = style.widened + 5 * roll(3) - 5
    if symbol in _TWO_WIDTHS:
        percent = percent * _TWO_WIDTHS[symbol][roll(2)] // 100
    return widened(style.face, style.size + roll(3) - 1, symbol, percent)


def draw(rng: np.random.Generator) -> Drawing:
    """One stand-in: five symbols, 200x50 grey PNG."""
    roll = dice(rng)
    label = "".join(_DRAWN_FROM[roll(len(_DRAWN_FROM))] for _ in range(5))
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    pen = _LEFT
    for symbol in label:
        shape = _letter(symbol, roll)
        paste(ink, shape.mask, pen + shape.left, _BASELINE + roll(2) + shape.top)
        pen += shape.width + roll(2)  # the width of the ink, so that letters touch
    ink = warps.warp(warps.warp(ink, _maps(_rings)), _maps(_ripple))
    for xs in ((20, 20, 50, 50), (20, 50, 100, 180)):  # the hook, and the curve across the text
        strokes.curve(ink, xs, [roll(HEIGHT) for _ in range(4)], _WIDTHS)
    pixels = (_gradient() * (255 - ink) // 255).astype(np.uint8)
    return Drawing(label, encode.png(pixels), "png")


DATASETS.add(
    "fournierp",
    Dataset(
        key="fournierp",
        handle="fournierp/captcha-version-2-images",
        kaggle_version=1,  # the pinned version
        licence="not stated; research data of R. Wilhelmy and H. Rosas (2013); check before use",
        images=1070,
        symbols="2345678bcdefgmnpwxy",
        min_length=5,
        max_length=5,
        draw=draw,
        version=2,
        faces=tuple(style.face for style in _STYLES),
    ),
)
