"""Decoding of untrusted images, and resizing to one size.

The format is recognised by content. The header is read first, so that no image of absurd dimensions is decoded. The
structure of PNG and JPEG files is checked for completeness here, since decoders accept some incomplete files.
"""

import io
import warnings
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile

from captchabench.config import NormalizeParams
from captchabench.errors import visible
from captchabench.normalize.rejects import Reason, Rejected

# Pillow warns about files that it then reads or raises an exception for.
warnings.filterwarnings("ignore", module=r"PIL\.")

MIN_SIDE = 8
MAX_SIDE = 4096
MAX_PIXELS = 4_000_000

# OpenCV's defaults, except for the limit: its 40 makes noise in small images as dark as ink.
_CLAHE_LIMIT = 2.0
_CLAHE_TILES = (8, 8)

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_END = b"\xff\xd9"
# Chunks of a PNG or segments of a JPEG. A small file can contain millions of empty ones.
_MAX_PARTS = 100_000
# Each scan of a progressive JPEG takes as long to decode as a whole image. Encoders write about ten.
_MAX_SCANS = 100
# Compressed data of a PNG up to this size expand to at most 64 MiB, so their expansion is not measured.
_UNMEASURED_BYTES = 64 << 10
# Pillow decodes PNM images in decimal digits and run-length encoded BMPs in Python, and skips comments in PNM in
# quadratic time. So both are limited in size.
_PLAIN_PNM = (b"P1", b"P2", b"P3")
_RUN_LENGTHS = (1, 2)  # values of "compression" in the header of a BMP
_MAX_SLOW_BYTES = 128 << 10
# A look-up table from 16 to 8 bits, ten times faster than dividing the pixels.
_TO_8_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type of a PNG
# Formats that Pillow may open. None of them runs another program or reads another file.
_PILLOW_FORMATS = ("AVIF", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# Levels of grey. A picture with less contrast, drawn on white, is also tried on black and in each of its channels. It
# is taken from there if it then has twice as much.
_FAINT = 16
# Decoders of JPEG look 64 bits ahead. These are no zeros, which decoders take for data that are missing.
_AHEAD = b"\x5a" * 8
_EIGHT_BIT_GREY = {"1", "L"}
_WITH_ALPHA = {"LA", "PA", "RGBA", "La", "RGBa"}
_NUMERIC = {"I", "F"}

# uint8, or uint16 that `_composite` scales.
_Decoded = NDArray[Any]


@dataclass(frozen=True)
class _Header:
    """The input of a decoder, and what its output must be like.

    encoded: the file without parts that do not affect its pixels. transparent_grey: whether it is a grey PNG with one
    level declared transparent, which OpenCV ignores. orientation: of Exif, 1 to 8. no_end_marker: whether `encoded` has
    one that was missing.
    """

    encoded: bytes
    width: int
    height: int
    transparent_grey: bool = False
    orientation: int = 1
    no_end_marker: bool = False


class Repair(StrEnum):
    """Why a file is not quite as it should be, though its picture is whole."""

    FIRST_FRAME = "first_frame"  # of an animated GIF; it fills the picture
    NO_END_MARKER = "no_end_marker"  # of a JPEG that has all its rows


@dataclass(frozen=True)
class Decoded:
    """grey: [H, W] uint8. repairs: what is amiss with the file."""

    grey: NDArray[np.uint8]
    repairs: tuple[Repair, ...] = ()


def decode_grey(encoded: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of `read_image`."""
    return read_image(encoded, max_pixels).grey


def read_image(encoded: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """The image as [H, W] uint8 grey, with transparent parts composited on white.

    Colours are weighted as in ITU-R BT.601, 16-bit samples are scaled to 8 bits, and Exif's orientation is applied. If
    hardly anything is to be seen on white, the ground or the channel with the most contrast is taken. A lossless
    re-encoding gives equal pixels. Of an animated GIF, the first frame is read if it fills the picture. Raises Rejected
    if the bytes are not one complete image, or if its size is implausible or above `max_pixels`.
    """
    if encoded.startswith(_PNG):
        header = _read_png(encoded, max_pixels)
    elif encoded.startswith(_JPEG):
        header = _read_jpeg(encoded, max_pixels)
    else:
        loaded, repairs = _decode_with_pillow(encoded, _PILLOW_FORMATS, max_pixels)
        return Decoded(_composite(loaded), repairs)
    if header.transparent_grey:
        return Decoded(_composite(_decode_with_pillow(header.encoded, ("PNG",), max_pixels)[0]))
    try:
        pixels = cv2.imdecode(np.frombuffer(header.encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise Rejected(Reason.UNDECODABLE, "the decoder gave up")
    grey = _upright(_composite(pixels), header.orientation)
    return Decoded(grey, (Repair.NO_END_MARKER,) if header.no_end_marker else ())


def to_grey(image: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
    """A decoded image as [H, W] uint8 grey, by the rules of `decode_grey`.

    image: a Pillow image, or uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA. Raises Rejected if it is neither, or if its
    size is implausible.
    """
    if isinstance(image, Image.Image):
        _check_size(*image.size)
        return _composite(_load(image))
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise Rejected(Reason.UNDECODABLE, f"an array of shape {list(image.shape)} and type {image.dtype}")
    _check_size(image.shape[1], image.shape[0])
    if image.ndim == 2:
        return image
    return _composite(np.ascontiguousarray(image[:, :, [2, 1, 0, 3][: image.shape[2]]]))


def create_clahe(params: NormalizeParams) -> Any:
    """The cv2.CLAHE for `fit`, or None if `params` do not ask for it. It is not thread-safe."""
    return cv2.createCLAHE(_CLAHE_LIMIT, _CLAHE_TILES) if params.clahe else None


def fit(grey: NDArray[np.uint8], params: NormalizeParams, clahe: Any = None) -> NDArray[np.uint8]:
    """`grey` [h, w] resized to [params.height, params.width] uint8.

    `stretch` ignores the aspect ratio; `pad` keeps it, and centres the image on a background of its border's median
    grey. clahe: a cv2.CLAHE that is applied before resizing.
    """
    if clahe is not None:
        grey = clahe.apply(grey)
    height, width = grey.shape
    if params.resize == "stretch":
        return _resize(grey, params.height, params.width)
    scale = min(params.height / height, params.width / width)
    inner = _resize(grey, max(1, round(height * scale)), max(1, round(width * scale)))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    page = np.full((params.height, params.width), int(np.median(border)), np.uint8)
    top, left = (params.height - inner.shape[0]) // 2, (params.width - inner.shape[1]) // 2
    page[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return page


def _resize(grey: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    # INTER_AREA averages only if neither side grows. So the image is first shrunk, then enlarged.
    smaller = (min(width, grey.shape[1]), min(height, grey.shape[0]))
    if smaller != grey.shape[::-1]:
        grey = cv2.resize(grey, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
    return grey


def _composite(pixels: _Decoded) -> NDArray[np.uint8]:
    """Grey uint8 [H, W] of [H, W], [H, W, 3] BGR or [H, W, 4] BGRA, uint8 or uint16; on white, see `_FAINT`."""
    if pixels.dtype == np.uint16:
        pixels = _TO_8_BITS[pixels]
    if pixels.dtype != np.uint8:
        raise Rejected(Reason.UNDECODABLE, f"samples of type {pixels.dtype}")
    if pixels.ndim == 2:
        return pixels
    grey: NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    alpha = pixels[:, :, 3].astype(np.uint16) if pixels.shape[2] == 4 else None
    if alpha is not None and alpha.min() == 255:
        alpha = None
    usual = _on_ground(grey, alpha, 255)
    if np.ptp(usual) >= _FAINT:
        return usual
    channels = (grey, *(pixels[:, :, channel] for channel in range(3)))
    grounds = (255,) if alpha is None else (0, 255)
    strongest = max((_on_ground(c, alpha, ground) for ground in grounds for c in channels), key=np.ptp)
    return strongest if np.ptp(strongest) >= 2 * _FAINT else usual


def _on_ground(levels: NDArray[np.uint8], alpha: NDArray[np.uint16] | None, ground: int) -> NDArray[np.uint8]:
    """`levels` [H, W] composited on a `ground` of one level, by `alpha` [H, W] of 0 to 255; None is opaque."""
    if alpha is None:
        return np.ascontiguousarray(levels)
    return ((levels * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)


def _check_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise Rejected(Reason.ABSURD_DIMENSIONS, f"{width}x{height} pixels")


def _read_png(encoded: bytes, max_pixels: int) -> _Header:
    """Check the chunks of a PNG (specification, section 5): none is missing or damaged, or has too much data."""
    position = len(_PNG)
    size = None
    grey = transparent_grey = False
    kept = [_PNG]
    data = []
    for _ in range(_MAX_PARTS):
        if position + 12 > len(encoded):
            break
        length = int.from_bytes(encoded[position : position + 4], "big")
        kind = encoded[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(encoded):
            break
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise Rejected(Reason.UNDECODABLE, "a PNG without its header")
            size = (
                int.from_bytes(encoded[position + 8 : position + 12], "big"),
                int.from_bytes(encoded[position + 12 : position + 16], "big"),
            )
            bits = encoded[position + 16] * _CHANNELS.get(encoded[position + 17], 4)
            grey = encoded[position + 17] == 0
        if zlib.crc32(memoryview(encoded)[position + 4 : end - 4]) != int.from_bytes(encoded[end - 4 : end], "big"):
            raise Rejected(Reason.UNDECODABLE, f"a damaged {_chunk_name(kind)} chunk in a PNG")
        if kind == b"acTL":
            raise Rejected(Reason.SEVERAL_FRAMES, "an animated PNG")
        if kind == b"tRNS":
            transparent_grey = grey
        if kind == b"IDAT":
            data.append(memoryview(encoded)[position + 8 : end - 4])
        # A bit in the name marks chunks that do not affect the pixels. They are dropped, since the decoder would
        # expand them and print warnings about them.
        if not kind[0] & 0x20 or kind == b"tRNS":
            kept.append(encoded[position:end])
        if kind == b"IEND":
            _check_size(*size, max_pixels)
            _check_expansion(data, ((size[0] * bits + 7) // 8 + 1) * size[1])
            return _Header(b"".join(kept), *size, transparent_grey)
        position = end
    else:
        raise Rejected(Reason.UNDECODABLE, f"a PNG of more than {_MAX_PARTS} chunks")
    raise Rejected(Reason.TRUNCATED, f"a PNG that stops after {len(encoded)} bytes")


def _chunk_name(kind: bytes) -> str:
    return visible(kind.decode("ascii", "backslashreplace"))


def _check_expansion(data: list[memoryview], expected: int) -> None:
    """Reject PNG `data` that expand to far more than the `expected` bytes, since the decoder would expand all."""
    if sum(map(len, data)) <= _UNMEASURED_BYTES:
        return
    # Interlaced images have slightly more data.
    most = 2 * expected + 4096
    try:
        expanded = len(zlib.decompressobj().decompress(b"".join(data), most + 1))
    except zlib.error:
        raise Rejected(Reason.UNDECODABLE, "damaged data in a PNG") from None
    if expanded > most:
        raise Rejected(Reason.UNDECODABLE, "more data than pixels in a PNG")


def _read_jpeg(encoded: bytes, max_pixels: int) -> _Header:
    """Check the segments of a JPEG (ITU-T T.81, annex B) up to the first scan, and that the end marker follows."""
    position = 2
    size = None
    exif = b""
    for _ in range(_MAX_PARTS):
        if position + 4 > len(encoded):
            break
        if encoded[position] != 0xFF:
            raise Rejected(Reason.UNDECODABLE, "a JPEG with damaged segments")
        kind = encoded[position + 1]
        if kind == 0xFF:  # padding
            position += 1
            continue
        length = int.from_bytes(encoded[position + 2 : position + 4], "big")
        # Markers without a segment are invalid here. A decoder that skips them would continue at another offset than
        # this check, where it could find other dimensions.
        if kind < 0xC0 or 0xD0 <= kind <= 0xD9 or length < 2:
            raise Rejected(Reason.UNDECODABLE, "a JPEG with damaged segments")
        if kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and position + 9 <= len(encoded):
            if size is not None:
                raise Rejected(Reason.UNDECODABLE, "a JPEG with its dimensions twice")
            size = (
                int.from_bytes(encoded[position + 7 : position + 9], "big"),
                int.from_bytes(encoded[position + 5 : position + 7], "big"),
            )
        if kind == 0xE1 and encoded.startswith(b"Exif\0\0", position + 4):
            exif = encoded[position + 4 : position + 2 + length]
        if kind == 0xDA:
            if size is None:
                raise Rejected(Reason.UNDECODABLE, "a JPEG without its dimensions")
            without = encoded.find(b"\xff\xd9", position) < 0
            if encoded.count(b"\xff\xda", position) > _MAX_SCANS:
                raise Rejected(Reason.UNDECODABLE, f"a JPEG of more than {_MAX_SCANS} scans")
            _check_size(*size, max_pixels)
            if without and (position + 2 + length > len(encoded) or not _has_all_rows(encoded)):
                break
            turn = _orientation(exif) if exif else 1
            return _Header(encoded + _END * without, *size, orientation=turn, no_end_marker=without)
        position += 2 + length
    else:
        raise Rejected(Reason.UNDECODABLE, f"a JPEG of more than {_MAX_PARTS} segments")
    raise Rejected(Reason.TRUNCATED, f"a JPEG that stops after {len(encoded)} bytes")


def _has_all_rows(encoded: bytes) -> bool:
    """Whether a JPEG without its end marker has all other data.

    With the marker, decoders take the data for complete and make up what is missing. With other bytes, they decode
    these, and Pillow stops where they end. If all is there, both are equal. Of a progressive JPEG they never are, since
    Pillow waits for its last scan. A last 0xFF is half of a marker or of a byte of data: it would make a marker of what
    follows.
    """
    complete = encoded.rstrip(b"\xff")
    whole, stopped = (_rows(complete + end) for end in (_END, _AHEAD))
    return whole is not None and stopped is not None and np.array_equal(whole, stopped)


def _rows(encoded: bytes) -> NDArray[np.uint8] | None:
    """The pixels of a JPEG up to where its data end, and zeros below; None if it is damaged."""
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            try:
                image.load()
            except OSError:
                image.tile = []  # Pillow keeps the rows that it has, and asks for no more.
            return np.asarray(image)
    # Pillow raises exceptions of nearly any type on damaged files.
    except Exception:
        return None


def _orientation(exif: bytes) -> int:
    """The orientation in a block of Exif: 1 to 8 (Exif 2.32, section 4.6.4), or 1 if it cannot be read."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        return int(tags.get(ExifTags.Base.Orientation, 1))
    # An image with damaged tags is still readable. Pillow raises exceptions of nearly any type on them.
    except Exception:
        return 1


def _upright(pixels: _Decoded, orientation: int) -> _Decoded:
    """`pixels` [H, W] or [H, W, C] with Exif's orientation applied."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _decode_with_pillow(
    encoded: bytes, formats: tuple[str, ...], max_pixels: int
) -> tuple[_Decoded, tuple[Repair, ...]]:
    """[H, W] grey, [H, W, 3] BGR or [H, W, 4] BGRA; and what is amiss with the file."""
    if not encoded:
        raise Rejected(Reason.UNDECODABLE, "an empty file")
    if len(encoded) > _MAX_SLOW_BYTES:
        if encoded.startswith(_PLAIN_PNM):
            raise Rejected(Reason.UNDECODABLE, f"an image written as text, of more than {_MAX_SLOW_BYTES >> 10} KiB")
        # The oldest BMP header, of twelve bytes, has no field "compression".
        compressed = encoded[14] != 12 and int.from_bytes(encoded[30:34], "little") in _RUN_LENGTHS
        if encoded.startswith(b"BM") and compressed:
            raise Rejected(Reason.UNDECODABLE, f"a BMP of run lengths, of more than {_MAX_SLOW_BYTES >> 10} KiB")
    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            _check_size(*image.size, max_pixels)
            repairs: tuple[Repair, ...] = ()
            if _has_more_frames(image):
                if not _is_filled_gif(image):
                    raise Rejected(Reason.SEVERAL_FRAMES, f"a {image.format} of several frames")
                image.seek(0)
                repairs = (Repair.FIRST_FRAME,)
            return _load(image), repairs
    except Rejected:
        raise
    except Image.DecompressionBombError:
        raise Rejected(Reason.ABSURD_DIMENSIONS, "more pixels than Pillow opens") from None
    except UnidentifiedImageError:
        raise Rejected(Reason.UNDECODABLE, f"no image: starts with {encoded[:8]!r}") from None
    except Exception as error:
        raise _undecodable(error) from None


def _has_more_frames(image: Image.Image) -> bool:
    """Whether there is a second frame. Frames are not counted, since that can take Pillow hours."""
    if image.format != "TIFF":
        return bool(getattr(image, "is_animated", False))
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _is_filled_gif(image: Image.Image) -> bool:
    """Whether `image` is a GIF whose first frame covers the whole picture."""
    image.seek(0)
    return isinstance(image, GifImageFile) and bool(image.tile) and image.tile[0][1] == (0, 0, *image.size)


def _load(image: Image.Image) -> _Decoded:
    try:
        image.load()
        return _upright(_as_array(image), int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Rejected:
        raise
    # Pillow's decoders raise exceptions of nearly any type on damaged files.
    except Exception as error:
        raise _undecodable(error) from None


def _undecodable(error: Exception) -> Rejected:
    reason = Reason.TRUNCATED if "truncated" in str(error) else Reason.UNDECODABLE
    return Rejected(reason, f"{type(error).__name__} while decoding")


def _as_array(image: Image.Image) -> _Decoded:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in _NUMERIC:
        raise Rejected(Reason.UNDECODABLE, f"samples of Pillow's mode {image.mode}")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return np.ascontiguousarray(np.asarray(image.convert("RGBA"))[:, :, [2, 1, 0, 3]])
    if image.mode in _EIGHT_BIT_GREY:
        return np.asarray(image.convert("L"))
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
