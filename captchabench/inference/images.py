"""Decoding of untrusted images, within limits."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captchabench.errors import InputError
from captchabench.normalize.images import MAX_PIXELS, MAX_SIDE, MIN_SIDE, decode_grey, to_grey
from captchabench.normalize.rejects import Reason, Rejected
from captchabench.storage.files import read_regular


@dataclass(frozen=True)
class Limits:
    """The largest image accepted: `size` encoded bytes, `pixels` decoded. `normalize` has the same upper bounds."""

    size: int = 32 << 20
    pixels: int = MAX_PIXELS


DEFAULT_LIMITS = Limits()


FORMATS = "PNG, JPEG, GIF, BMP, TIFF, WebP, AVIF, PNM"
_SIZE = re.compile(r"(\d+)x(\d+) pixels")


class Unreadable(InputError):
    """An image that cannot be read.

    reason: a code from the list of rejects. detail: an explanation for the user. why: the explanation prefixed with the
    kind of fault and a colon, so that faults can be counted by kind. path: the file, if there is one.
    """

    def __init__(self, reason: Reason, detail: str, path: Path | None = None) -> None:
        self.why = detail if ": " in detail else f"{reason.replace('_', ' ')}: {detail}"
        super().__init__(self.why if path is None else f"{path}: {self.why}")
        self.reason = reason
        self.detail = detail
        self.path = path


def decode(image: bytes | Path, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """An encoded image, or the file that holds one, as [H, W] uint8 grey, exactly as `normalize` decodes it.

    Raises Unreadable if the image cannot be decoded or exceeds `limits`.
    """
    path, encoded = (image, _read_bytes(image, limits)) if isinstance(image, Path) else (None, image)
    if len(encoded) > limits.size:
        raise Unreadable(Reason.ABSURD_DIMENSIONS, f"too large: more than {limits.size:,} bytes", path)
    max_pixels = min(limits.pixels, MAX_PIXELS)
    try:
        return decode_grey(encoded, max_pixels)
    except Rejected as error:
        raise Unreadable(error.reason, _explanation(error, max_pixels), path) from None


def as_grey(image: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
    """A decoded image as [H, W] uint8 grey: see `to_grey`. Raises Unreadable."""
    try:
        return to_grey(image)
    except Rejected as error:
        raise Unreadable(error.reason, _explanation(error, MAX_PIXELS)) from None


def _explanation(error: Rejected, max_pixels: int) -> str:
    """Why an image cannot be read, for the user who supplied it. The list of rejects is terser."""
    if error.reason is Reason.ABSURD_DIMENSIONS:
        return _size_explanation(error.detail, max_pixels)
    if error.reason is Reason.UNDECODABLE and error.detail.startswith("no image"):
        return f"this is not an image that can be read here ({FORMATS})"
    return f"{error.reason.replace('_', ' ')}: {error.detail}"


def _size_explanation(detail: str, max_pixels: int) -> str:
    match = _SIZE.fullmatch(detail)
    if match is None:
        return f"too large: {detail}"
    width, height = int(match[1]), int(match[2])
    size = f"{width}x{height}"
    if min(width, height) < MIN_SIDE:
        return f"too small: {size}; at least {MIN_SIDE} pixels a side"
    if width * height > max_pixels:
        return f"too large: {size}; at most {max_pixels / 1e6:g} million pixels"
    return f"too large: {size}; at most {MAX_SIDE:,} pixels a side"


def _read_bytes(path: Path, limits: Limits) -> bytes:
    """The bytes of a file, cut off one byte after the limit. Raises Unreadable."""
    try:
        return read_regular(path, limits.size)
    except (OSError, ValueError) as error:
        raise Unreadable(Reason.UNDECODABLE, getattr(error, "strerror", None) or str(error), path) from None
