"""CAPTCHA Version 2 images: bold touching letters on a grey slope, the middle shaken, one hooked curve."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.datasets.drawing import encode, strokes, warps
from captchabench.datasets.drawing.dice import dice
from captchabench.datasets.drawing.glyphs import Face, glyph, paste

HEIGHT, WIDTH = 50, 200
_FACE = Face("font_source_sans_pro", "SourceSansPro-Semibold.ttf")
_SIZE = 46
_LEFT, _BASELINE = 30, 42
_TIGHTER = 3  # pixels each letter moves towards the one before, so that they touch
# The published labels hold `n` twice as often as any other symbol.
_URN = "2345678bcdefgmnnpwxy"
_WIDTHS = (58, 43, 29)  # of the curve's pieces, in 1/16 pixel: thick at the left, thin from there on


def _ripple(x: int, y: int) -> tuple[float, float]:
    """A gentle wave both ways."""
    return x + 2.6 * math.sin(y / 15), y + 1.7 * math.sin(x / 5)


def _rings(x: int, y: int) -> tuple[float, float]:
    """Rings about the middle, so narrow that the pixel grid breaks them up: edges turn into dots."""
    dx, dy = x - WIDTH / 2, y - HEIGHT / 2
    r = math.hypot(dx, dy)
    if not 0 < r < 50:
        return x, y
    push = 3 * math.sin(math.pi * r - 10) * (50 - r) / 50 / r
    return x + dx * push, y + dy * push


@cache
def _maps(place: Callable[[int, int], tuple[float, float]]) -> warps.Maps:
    """Maps that show at each pixel (x, y) what was at `place(x, y)`; they never change."""
    places = [[place(x, y) for x in range(WIDTH)] for y in range(HEIGHT)]
    fixed = np.array([[[round(v * warps.STEPS) for v in p] for p in row] for row in places], np.int32)
    return warps.split(fixed[..., 0], fixed[..., 1])


@cache
def _slope() -> NDArray[np.uint16]:
    """The background: 192 in the upper left corner, 255 in the lower right, [H, W]."""
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    return (192 + 63 * (x * WIDTH + y * HEIGHT) // (WIDTH**2 + HEIGHT**2)).astype(np.uint16)


def draw(rng: np.random.Generator) -> Drawing:
    """One stand-in: five symbols, 200x50 grey PNG."""
    roll = dice(rng)
    label = "".join(_URN[roll(len(_URN))] for _ in range(5))
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    pen = _LEFT
    for symbol in label:
        shape = glyph(_FACE, _SIZE, symbol)
        paste(ink, shape.mask, pen + shape.left, _BASELINE + shape.top)
        pen += shape.advance - _TIGHTER
    ink = warps.warp(warps.warp(ink, _maps(_rings)), _maps(_ripple))
    for xs in ((20, 20, 50, 50), (20, 50, 100, 180)):  # the hook, and the curve through the word
        strokes.curve(ink, xs, [roll(HEIGHT) for _ in range(4)], _WIDTHS)
    pixels = (_slope() * (255 - ink) // 255).astype(np.uint8)
    return Drawing(label, encode.png(pixels), "png")


DATASETS.add(
    "fournierp",
    Dataset(
        key="fournierp",
        handle="fournierp/captcha-version-2-images",
        kaggle_version=1,  # the pinned version
        licence="not stated; research data of R. Wilhelmy and H. Rosas (2013); check before use",
        images=1070,
        alphabet=Alphabet("2345678bcdefgmnpwxy"),
        min_length=5,
        max_length=5,
        draw=draw,
        faces=(_FACE,),
    ),
)
