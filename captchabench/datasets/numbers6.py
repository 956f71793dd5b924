"""CAPTCHA numbers, length 6: thin slanted digits across the whole width, under two or three curves.

Neither the look nor the size of the images is documented. The stand-ins look like the output of common generators.
"""

import numpy as np

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.datasets.drawing import encode, strokes
from captchabench.datasets.drawing.dice import dice
from captchabench.datasets.drawing.glyphs import Face, glyph, paste

HEIGHT, WIDTH = 50, 150
_FACE = Face("font_hanken_grotesk", "HankenGrotesk-Italic.otf")
_SIZE = 46
_LEFT, _BASELINE = 11, 39
_PITCH = 22  # pixels; the advance of a digit is about the mean of this and its width
_DIGITS = "0123456789"


def label_of(stem: str) -> str:
    """The label: the first six characters of the stem, which can be longer."""
    return stem[:6]


def draw(rng: np.random.Generator) -> Drawing:
    """One stand-in: six digits, 150x50 PNG, black on white or (one in ten) on a transparent background.

    Such sets contain transparent images in which every pixel is black. A reader that ignores transparency sees nothing
    in them, so the stand-ins contain some too.
    """
    roll = dice(rng)
    label = "".join(_DIGITS[roll(10)] for _ in range(6))
    ink = np.zeros((HEIGHT, WIDTH), np.uint8)
    pen = _LEFT + roll(4)
    for symbol in label:
        shape = glyph(_FACE, _SIZE, symbol)
        advance = (_PITCH + shape.width) // 2 - 1
        paste(ink, shape.mask, pen + (advance - shape.width) // 2 + roll(3) - 1, _BASELINE + shape.top)
        pen += advance
    for _ in range(2 + (roll(4) == 0)):
        strokes.curve(ink, (15, 15, 37, 136), [roll(HEIGHT) for _ in range(4)], (52,))
    ink[[0, -1]] = 255
    ink[:, [0, -1]] = 255
    transparent = roll(10) == 0
    pixels = np.dstack((np.zeros_like(ink), ink)) if transparent else 255 - ink
    return Drawing(label, encode.png(pixels), "png")


DATASETS.add(
    "numbers6",
    Dataset(
        key="numbers6",
        handle="mahmoudeldebase/captcha-numbers-length-6",
        kaggle_version=1,  # the pinned version
        licence="not stated on the Kaggle page; check before use",
        images=1742,
        symbols=_DIGITS,
        min_length=6,
        max_length=6,
        draw=draw,
        faces=(_FACE,),
        label_of=label_of,
    ),
)
