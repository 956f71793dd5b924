"""Characters as coverage masks, rendered once by FreeType and then cached."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from captchabench.errors import InputError


@dataclass(frozen=True)
class Face:
    """A font file in the folder `folder` of an installed package. capitals: draw lower case as capitals."""

    package: str
    file: str
    folder: str = "files"
    capitals: bool = False


@dataclass(frozen=True, eq=False)
class Glyph:
    """A character's coverage and its position relative to the pen.

    mask: [h, w], read-only, 255 where ink covers the whole pixel; empty for a space. left, top: pixels from the pen on
    the baseline to the mask's upper left corner (above is negative). advance: pixels by which the pen moves on.
    """

    mask: NDArray[np.uint8]
    left: int
    top: int
    advance: int

    @property
    def width(self) -> int:
        """Width of the ink in pixels."""
        return int(self.mask.shape[1])


@cache
def font(face: Face, size: int) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels per em. Raises InputError if its package is not installed.

    Uses the basic layout engine, since not every build of Pillow has the other one.
    """
    try:
        with as_file(files(face.package) / face.folder / face.file) as path:
            return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except (ModuleNotFoundError, OSError):
        name = face.package.replace("_", "-")
        raise InputError(f"{name}: the font {face.file} is not installed; run `make setup`") from None


@cache
def glyph(face: Face, size: int, text: str) -> Glyph:
    """`text`, usually one character, in `face` at `size` pixels per em."""
    sized_font = font(face, size)
    if face.capitals:
        text = text.upper()
    advance = round(sized_font.getlength(text))
    image = Image.new("L", (advance + 2 * size, 3 * size))
    ImageDraw.Draw(image).text((size, 2 * size), text, fill=255, font=sized_font, anchor="ls")
    ink = image.getbbox() or (0, 0, 0, 0)
    mask = np.array(image.crop(ink))
    mask.setflags(write=False)
    return Glyph(mask, ink[0] - size, ink[1] - 2 * size, advance)


@cache
def widened(face: Face, size: int, text: str, percent: int) -> Glyph:
    """`glyph`, as wide as `percent` says."""
    shape = glyph(face, size, text)
    width = max(1, shape.width * percent // 100)
    # Bilinear, by whole numbers: the same on every machine.
    mask = cv2.resize(shape.mask, (width, len(shape.mask)), interpolation=cv2.INTER_LINEAR_EXACT)
    mask.setflags(write=False)
    return Glyph(mask, shape.left * percent // 100, shape.top, shape.advance * percent // 100)


def paste(canvas: NDArray[np.uint8], mask: NDArray[np.uint8], x: int, y: int) -> None:
    """Draw `mask` on `canvas`, both coverage [h, w], with its upper left corner at (x, y).

    Parts outside the canvas are cut off. Where both have ink, the higher coverage is kept.
    """
    height, width = mask.shape
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
    if x0 < x1 and y0 < y1:
        under = canvas[y0:y1, x0:x1]
        np.maximum(under, mask[y0 - y : y1 - y, x0 - x : x1 - x], out=under)
