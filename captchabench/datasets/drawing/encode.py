"""Encoders of drawn pixels: PNG and JPEG."""

import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

_GREY, _PALETTE, _GREY_ALPHA = 0, 3, 4


def png(pixels: NDArray[np.uint8], palette: bytes = b"") -> bytes:
    """A PNG of `pixels` uint8: [h, w] grey, [h, w, 2] grey and alpha, or [h, w] entries of a `palette`.

    palette: RGB, three bytes per entry. The pixels are stored without compression. That is ten times faster, and the
    bytes do not depend on the version of zlib. No library is used, since OpenCV writes neither palettes nor grey with
    alpha, and Pillow takes longer to encode an image than we take to draw it. Raises ValueError above 64 KiB.
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    lines = np.zeros((height, rows.shape[1] + 1), np.uint8)  # each line begins with its filter type, 0 for none
    lines[:, 1:] = rows
    raw = lines.tobytes()
    if len(raw) > 0xFFFF:
        raise ValueError(f"{len(raw)} bytes do not fit one stored block")
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF) + raw
    kind = _PALETTE if palette else _GREY_ALPHA if pixels.ndim == 3 else _GREY
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
            _chunk(b"PLTE", palette) if palette else b"",
            _chunk(b"IDAT", stored + struct.pack(">I", zlib.adler32(raw))),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG of `pixels` [h, w, 3] BGR, at `quality` 0 to 100."""
    succeeded, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not succeeded:
        raise ValueError(f"OpenCV could not encode an image of shape {pixels.shape}")
    return encoded.tobytes()
