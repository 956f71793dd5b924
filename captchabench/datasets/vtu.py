"""VTU captchas: one grey, bold, tilted word over a word cloud that is the same in every image."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.datasets.drawing import encode, warps
from captchabench.datasets.drawing.dice import dice
from captchabench.datasets.drawing.glyphs import Face, glyph, paste

HEIGHT, WIDTH = 75, 160
_SYMBOLS = "23456789ABCDEFGHJKLMNPRSTUVWXYZabcdefghjkmnprstuvwxyz"
_INK = 102
_FACE = Face("font_caladea", "Caladea-Bold.ttf")
_TILT = 10  # degrees, in both directions

# The word is drawn centred on a level strip. The strip is then tilted and bent into the image.
_STRIP_HEIGHT, _STRIP_WIDTH, _STRIP_BASELINE = 64, 224, 45


class _Word(NamedTuple):
    """A word of the background.

    x, y: its lower left corner; its lower right corner if it reads upwards (`up`). size: in pixels per em. colour:
    index into _CLOUD_COLOURS.
    """

    text: str
    x: int
    y: int
    size: int
    colour: int = 0
    up: bool = False


_CLOUD_FACE = Face("font_source_sans_pro", "SourceSansPro-Regular.ttf")
# Grey, red, green, navy, brown, purple.
_CLOUD_COLOURS = ((128, 128, 128), (214, 54, 60), (24, 120, 78), (44, 50, 128), (150, 84, 44), (100, 52, 96))
_CLOUD = (
    _Word("THESIS", 3, 10, 13, 5),
    _Word("SEMESTER", 46, 10, 11),
    _Word("EXAMINATION", 99, 10, 10),
    _Word("DEGREE", 10, 43, 9, up=True),
    _Word("TUTOR", 14, 21, 11),
    _Word("LECTURE", 49, 20, 12),
    _Word("GRADE", 101, 20, 12, 2),
    _Word("CHALK", 136, 19, 8),
    _Word("SCIENCE", 46, 35, 20, 1),
    _Word("POETRY", 124, 31, 10),
    _Word("QUIZ", 14, 31, 9),
    _Word("HOSTEL", 14, 41, 9),
    _Word("SEMINAR", 47, 45, 11),
    _Word("CANTEEN", 92, 44, 8),
    _Word("ATLAS", 127, 42, 10, 4),
    _Word("LIBRARIAN", 159, 73, 8, up=True),
    _Word("ALGEBRA", 2, 52, 9),
    _Word("ESSAY", 46, 74, 9, 1, up=True),
    _Word("RESEARCH", 51, 57, 13, 3),
    _Word("PHYSICS", 110, 55, 11),
    _Word("SCHOLAR", 2, 62, 9),
    _Word("WORKSHOP", 50, 67, 10),
    _Word("READING", 103, 66, 11),
    _Word("DIPLOMA", 3, 73, 9, 4),
    _Word("FACULTY", 50, 75, 8),
    _Word("PRACTICAL", 86, 75, 9, 5),
)
# Levels of ink per colour of the background. With white they take 31 of the 32 palette entries reserved for it.
_CLOUD_STEPS = 5


@cache
def _cloud() -> NDArray[np.uint8]:
    """The background [H, W] as palette entries: white, then each colour at five levels of ink."""
    entries = np.zeros((HEIGHT, WIDTH), np.uint8)
    for word in _CLOUD:
        shape = glyph(_CLOUD_FACE, word.size, word.text)
        mask = np.rot90(shape.mask) if word.up else shape.mask
        steps = (mask.astype(np.uint16) * _CLOUD_STEPS + 127) // 255
        inked = np.where(steps > 0, word.colour * _CLOUD_STEPS + steps, 0).astype(np.uint8)
        paste(entries, inked, word.x - (mask.shape[1] if word.up else 0), word.y - mask.shape[0])
    return entries


@cache
def _palette() -> bytes:
    """The 32 colours of the background under eight levels of the word's ink, from none to full."""
    background: list[tuple[int, ...]] = [(255, 255, 255)]
    for colour in _CLOUD_COLOURS:
        for step in range(1, _CLOUD_STEPS + 1):
            background.append(tuple(255 + (c - 255) * step // _CLOUD_STEPS for c in colour))
    background.append((0, 0, 0))
    levels = [level for colour in background for level in colour]
    return bytes((level * (7 - step) + _INK * step) // 7 for step in range(8) for level in levels)


@cache
def _tilted(degrees: int) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]:
    """The point of the strip that each pixel shows, tilted but not yet bent.

    Returns x and y in 1/32 pixel, and the wave's angle at that point in 1/1024 turn (64 pixels are one turn). Each is
    [2 H, 2 W] with the word's centre in the middle, so an image is a window of it.
    """
    cos, sin = warps.turn(degrees)
    x, y = np.arange(-WIDTH, WIDTH), np.arange(-HEIGHT, HEIGHT)[:, None]
    along = (x * cos - y * sin) * warps.STEPS // warps.UNIT
    across = (x * sin + y * cos) * warps.STEPS // warps.UNIT
    angle = along // 2 % warps.PERIOD
    strip_x, strip_y = along + _STRIP_WIDTH // 2 * warps.STEPS, across + _STRIP_HEIGHT // 2 * warps.STEPS
    return strip_x.astype(np.int16), strip_y.astype(np.int16), angle.astype(np.int16)


def draw(rng: np.random.Generator) -> Drawing:
    """One stand-in: six symbols, 160x75 palette PNG."""
    roll = dice(rng)
    label = "".join(_SYMBOLS[roll(len(_SYMBOLS))] for _ in range(6))
    size = 36 + roll(4)
    shapes = [glyph(_FACE, size, symbol) for symbol in label]
    length = sum(shape.advance for shape in shapes)
    strip = np.zeros((_STRIP_HEIGHT, _STRIP_WIDTH), np.uint8)
    pen = (_STRIP_WIDTH - length) // 2
    for shape in shapes:
        paste(strip, shape.mask, pen + shape.left, _STRIP_BASELINE + shape.top)
        pen += shape.advance

    # At any position; a few pixels may be cut off at an edge.
    centre_x = length // 2 - 6 + roll(max(WIDTH - length + 12, 1))
    centre_y = 19 + roll(HEIGHT - 37)
    window = (slice(HEIGHT - centre_y, 2 * HEIGHT - centre_y), slice(WIDTH - centre_x, 2 * WIDTH - centre_x))
    x, y, angle = (plane[window] for plane in _tilted(roll(2 * _TILT + 1) - _TILT))
    wave = warps.wave(roll(warps.PERIOD), 32 + roll(33))  # one to two pixels high
    ink = warps.warp(strip, warps.split(x, y + wave[angle]))
    return Drawing(label, encode.png((ink & np.uint8(0xE0)) + _cloud(), _palette()), "png")


DATASETS.add(
    "vtu",
    Dataset(
        key="vtu",
        handle="bharatnaik111/vtu-university-captchas-with-labels",
        kaggle_version=1,  # the pinned version
        licence="not stated on the Kaggle page; check before use",
        images=5000,  # not documented: the number that `images: all` draws
        symbols=_SYMBOLS,
        min_length=6,
        max_length=6,
        draw=draw,
        faces=(_FACE,),
        # Damaged as published.
        corrupt=frozenset({"2GAUXb", "ASkEG4", "hB5akC", "jTxNsr", "RpM4NW"}),
    ),
)
