"""Encoded images from anywhere, within limits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from captchabench.errors import InputError
from captchabench.normalize.images import MAX_PIXELS, decode_grey, grey_of
from captchabench.normalize.rejects import Reason, Rejected
from captchabench.storage.files import read_regular


@dataclass(frozen=True)
class Limits:
    """How much of an image is accepted: `size` bytes encoded, `pixels` decoded. Never more than `normalize` does."""

    size: int = 32 << 20
    pixels: int = MAX_PIXELS


DEFAULT_LIMITS = Limits()


class Unreadable(InputError):
    """An image that cannot be read. `reason` as in the list of rejects, `detail` what was found, `path` if a file."""

    def __init__(self, reason: Reason, detail: str, path: Path | None = None) -> None:
        self.why = f"{reason.replace('_', ' ')}: {detail}"
        super().__init__(self.why if path is None else f"{path}: {self.why}")
        self.reason = reason
        self.detail = detail
        self.path = path


def decode(image: bytes | Path, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """An encoded image, or the file that holds one, as [H, W] uint8 grey, exactly as `normalize` decodes it.

    Raises Unreadable, with the reason, where that cannot be done or goes beyond `limits`.
    """
    path, encoded = (image, _read_bytes(image, limits)) if isinstance(image, Path) else (None, image)
    if len(encoded) > limits.size:
        raise Unreadable(Reason.ABSURD_DIMENSIONS, f"more than {limits.size:,} bytes", path)
    try:
        return decode_grey(encoded, min(limits.pixels, MAX_PIXELS))
    except Rejected as error:
        raise Unreadable(error.reason, error.detail, path) from None


def as_grey(image: np.ndarray | Image.Image) -> np.ndarray:
    """A decoded image as [H, W] uint8 grey: see `grey_of`. Raises Unreadable."""
    try:
        return grey_of(image)
    except Rejected as error:
        raise Unreadable(error.reason, error.detail) from None


def _read_bytes(path: Path, limits: Limits) -> bytes:
    """The bytes of a file; of one that is too large, just enough to see that. Raises Unreadable."""
    try:
        return read_regular(path, limits.size)
    except (OSError, ValueError) as error:
        raise Unreadable(Reason.UNDECODABLE, getattr(error, "strerror", None) or str(error), path) from None
