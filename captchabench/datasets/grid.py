"""Challenges of 3x3 tiles, such as "select all tiles with a bus": images in one folder per class, or drawn pictograms.

The dataset consists of tiles, each with its class. Normalisation composes grids from them.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import class_alphabet
from captchabench.datasets import DATASETS
from captchabench.datasets.base import TILES, Dataset, Drawing, class_name
from captchabench.datasets.drawing import encode, warps
from captchabench.datasets.drawing.backgrounds import background, bar, colour
from captchabench.datasets.drawing.dice import Roll, dice
from captchabench.datasets.drawing.glyphs import Face, glyph

SIDE = 64
_FACE = Face("fonticon_mdi7", "materialdesignicons-webfont.ttf", folder="fonts")
_EM = 96  # size in pixels at which pictograms are cached; they are drawn smaller
# The pictograms of each class, by their names in the font. Some are similar across classes, as real vehicles are.
_PICTOGRAMS = {
    "airplane": "airplane airplane_landing airplane_takeoff",
    "bicycle": "bicycle bike bike_fast bicycle_cargo bicycle_basket",
    "boat": "sail_boat ferry",
    "bus": "bus bus_side bus_school bus_double_decker",
    "car": "car car_side car_hatchback car_estate car_sports car_convertible car_pickup taxi",
    "fire hydrant": "fire_hydrant",
    "house": "home home_variant home_modern home_city",
    "motorcycle": "motorbike moped scooter",
    "traffic light": "traffic_light traffic_light_outline",
    "train": "train train_variant tram tram_side",
    "tree": "tree tree_outline pine_tree palm_tree",
    "truck": "truck truck_cargo_container truck_flatbed dump_truck fire_truck tow_truck",
}
CLASSES = tuple(_PICTOGRAMS)
_MIN_CONTRAST = 48  # grey levels between a pictogram and the mean of its background
_MIN_SIZE, _MAX_SIZE = 34, 62  # of the longer side, in pixels
_MAX_TURN, _MAX_SHEAR = 25, 4096  # degrees; in 1/16384
_NOISE = (2, 4, 8, 16)  # grey levels, added or subtracted
_QUALITY = 90


@cache
def _shapes(name: str) -> tuple[NDArray[np.uint8], ...]:
    """The pictograms of a class, each centred in a square: coverage [side, side]."""
    from fonticon_mdi7 import MDI7

    return tuple(_padded_square(glyph(_FACE, _EM, getattr(MDI7, icon)[-1]).mask) for icon in _PICTOGRAMS[name].split())


def _padded_square(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = max(mask.shape)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - mask.shape[0]) // 2, (side - mask.shape[1]) // 2
    square[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return square


_AXIS = np.arange(SIDE, dtype=np.int32)


def _transformed(roll: Roll, shape: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`shape` randomly rotated, sheared, mirrored, scaled and moved on a tile: [SIDE, SIDE]."""
    size = _MIN_SIZE + roll(_MAX_SIZE - _MIN_SIZE + 1)
    cosine, sine = warps.turn(roll(2 * _MAX_TURN + 1) - _MAX_TURN)
    shear = roll(2 * _MAX_SHEAR + 1) - _MAX_SHEAR
    mirrored = 1 - 2 * roll(2)
    reach = (SIDE - size) // 2 + 3
    x = _AXIS - (SIDE // 2 + roll(2 * reach + 1) - reach)
    y = _AXIS[:, None] - (SIDE // 2 + roll(2 * reach + 1) - reach)
    # The point of the shape that each pixel of the tile shows, in 1/32 pixel. The products stay below 2**28.
    scale = warps.STEPS * len(shape) // size
    source_y = (scale * cosine * y - scale * sine * x) >> 14
    source_x = mirrored * (((scale * cosine * x + scale * sine * y) >> 14) + (source_y * shear >> 14))
    middle = warps.STEPS * len(shape) // 2
    return warps.warp(shape, warps.split(source_x + middle, source_y + middle))


def draw(rng: np.random.Generator) -> Drawing:
    """One stand-in: a tile with a pictogram of one class, 64x64 colour JPEG."""
    roll = dice(rng)
    name = CLASSES[roll(len(CLASSES))]
    shapes = _shapes(name)
    canvas = background(roll, rng, SIDE)
    mask = _transformed(roll, shapes[roll(len(shapes))])
    canvas = _blended(canvas, mask, _ink(roll, canvas))
    for _ in range((0, 0, 1, 2)[roll(4)]):  # obstacles in front
        bar(roll, canvas, 2 + roll(5))
    if roll(3) == 0:
        canvas = cv2.blur(canvas, (3, 3))
    level = _NOISE[roll(len(_NOISE))]
    noise = np.frombuffer(rng.bytes(canvas.size), np.uint8).reshape(canvas.shape) & (2 * level - 1)
    canvas = cv2.subtract(cv2.add(canvas, noise), (level, level, level))
    return Drawing(name, encode.jpeg(canvas, _QUALITY), "jpg")


def _ink(roll: Roll, canvas: NDArray[np.uint8]) -> NDArray[np.int16]:
    """A random colour that differs enough in grey level from the mean of `canvas`: [3] BGR."""
    mean = _grey(*map(int, cv2.sumElems(canvas)[:3])) // (SIDE * SIDE)
    while True:
        ink = colour(roll)
        if abs(_grey(*ink) - mean) >= _MIN_CONTRAST:
            return np.array(ink, np.int16)


def _grey(blue: int, green: int, red: int) -> int:
    """The luma of ITU-R BT.601, in integers."""
    return (29 * blue + 150 * green + 77 * red) >> 8


def _blended(canvas: NDArray[np.uint8], mask: NDArray[np.uint8], ink: NDArray[np.int16]) -> NDArray[np.uint8]:
    """`canvas` with the colour `ink` on top, by the coverage in `mask`."""
    under = canvas.astype(np.int16)
    cover = (mask >> 1).astype(np.int16)[..., None]  # halved, so that the products fit 16 bits
    return (under + ((ink - under) * cover + 63 >> 7)).astype(np.uint8)


DATASETS.add(
    "grid",
    Dataset(
        key="grid",
        handle="",
        kaggle_version=0,
        licence="none of its own: that of the images you give it; drawn tiles use Material Design Icons (Apache 2.0)",
        images=20_000,
        symbols=class_alphabet(len(CLASSES)).symbols,
        min_length=TILES,
        max_length=TILES,
        draw=draw,
        label_of=class_name,
        task="grid",
        class_names=CLASSES,
    ),
)
