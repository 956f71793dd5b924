"""What it takes to read an image, told from its first bytes: before anything is decoded.

One unit is about five nanoseconds of one core. Measured: 0.15 s for four million pixels of 16-bit RGBA, 1 ms for one
image that a crnn reads in a batch.
"""

_READING = 200_000
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by its colour type
# Of formats whose headers say less: as many as any of their images has.
_CHANNELS = 4
# Decoding one pixel of a WebP takes about as long as three of a PNG.
_WEBP = 12
_MOST_SEGMENTS = 200


def cost_of_reading(models: int, top_k: int, explain: bool) -> int:
    """What it costs to read one image with so many models."""
    return models * (1 + (top_k > 1) + explain) * _READING


def cost_of_decoding(image: bytes, most_pixels: int) -> int:
    """What it costs to decode an image. most_pixels: those that say they have more are not decoded."""
    pixels, weight = _measure(image)
    if pixels is None:
        pixels = most_pixels
    # Whatever the header says, the bytes are looked at, too.
    return len(image) + (pixels * weight if pixels <= most_pixels else 0)


def _measure(image: bytes) -> tuple[int | None, int]:
    """How many pixels an image says it has, None where that is not found; and what each of them costs."""

    def number(start: int, size: int, order: str = "little") -> int:
        return int.from_bytes(image[start : start + size], "big" if order == "big" else "little")

    if image.startswith(b"\x89PNG"):
        size = number(16, 4, "big") * number(20, 4, "big")
        deep = 2 if image[24:25] == b"\x10" else 1
        return size, deep * _PNG_CHANNELS.get(number(25, 1), 4)
    if image.startswith(b"\xff\xd8\xff"):
        # A progressive one is gone through once for each of its scans.
        return _pixels_of_jpeg(image), 3 + image.count(b"\xff\xda")
    if image.startswith(b"GIF8"):
        return number(6, 2) * number(8, 2), _CHANNELS
    if image.startswith(b"BM"):
        return number(18, 4) * abs(int.from_bytes(image[22:26], "little", signed=True)), _CHANNELS
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return _pixels_of_webp(image), _WEBP
    # TIFF and PNM say it somewhere; anything else is no image that can be read.
    return (None if image.startswith((b"II", b"MM", b"P")) else 0), _CHANNELS


def _pixels_of_jpeg(image: bytes) -> int | None:
    """From the frame header (ITU-T T.81, annex B), if it is among the first segments."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        kind = image[place + 1 : place + 2]
        if not kind or image[place] != 0xFF:
            return None
        if 0xC0 <= kind[0] <= 0xCF and kind[0] not in (0xC4, 0xC8, 0xCC):
            high, wide = image[place + 5 : place + 7], image[place + 7 : place + 9]
            return int.from_bytes(high, "big") * int.from_bytes(wide, "big")
        place += 2 + int.from_bytes(image[place + 2 : place + 4], "big")
    return None


def _pixels_of_webp(image: bytes) -> int | None:
    """From the first chunk (WebP container specification)."""
    kind = image[12:16]
    if kind == b"VP8X":
        return (int.from_bytes(image[24:27], "little") + 1) * (int.from_bytes(image[27:30], "little") + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(image[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        return (int.from_bytes(image[26:28], "little") & 0x3FFF) * (int.from_bytes(image[28:30], "little") & 0x3FFF)
    return None
