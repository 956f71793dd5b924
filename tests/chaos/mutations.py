"""Hostile inputs from a seeded generator: images, archives, names and params files, each damaged in a different way.

Equal generators give equal inputs. Some damage ignores the format (bits, cuts, splices). Some respects it: chunks and
segments are moved and their checksums fixed, header fields are set to extremes, sizes are wrong.
"""

import gzip
import io
import random
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

# Names that entries of archives have had, by accident or on purpose.
NAMES = (
    "../AB12.png",
    "in/../../AB12.png",
    "/etc/AB12.png",
    "//server/share/AB12.png",
    "C:\\AB12.png",
    "\\\\server\\share\\AB12.png",
    "..\\AB12.png",
    "",
    ".",
    "./",
    "/",
    ".png",
    "a\nb.png",
    "a\x1b[31mb.png",
    "a\0b.png",
    "AB\u202e21.png",
    "\u0410\u0412\u0421\u0415\u041d.png",  # Cyrillic, in the shape of ABCEH
    "e\u0301e\u0301.png",
    "\xe9\xe9.png",
    "A\u200bB\u200d1.png",
    "A\xa0B\u30001.png",
    "\ud800.png",
    "caf\udce9.png",
    "AB\uff11\uff12.png",
    "x" * 1000 + ".png",
    "y" * 10_000 + ".png",
    "d/" * 500 + "AB12.png",
    "ab12.PNG",
    "AB12.png",
    "AB12.png/",
    "CON.png",
    "=1+1.png",
    'a"b,c.png',
    "nested.zip",
)
_EXTREMES = [0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 30_000, 65_500, 0x10000, 1 << 24]
_EXTREMES += [0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
_PNG = b"\x89PNG\r\n\x1a\n"

Mutator = Callable[[random.Random, bytes], bytes]


def picture(rng: random.Random, width: int = 60, height: int = 24) -> Image.Image:
    """A few strokes on noise, in colour."""
    noise = np.random.default_rng(rng.getrandbits(32)).integers(150, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    drawing = ImageDraw.Draw(image)
    for _ in range(4):
        ends = [(rng.randrange(width), rng.randrange(height)) for _ in range(3)]
        drawing.line(ends, tuple(rng.randrange(150) for _ in range(3)), 2)
    return image


def pictures(rng: random.Random) -> list[tuple[str, bytes]]:
    """(suffix, encoded) of one image in every format and mode that matters."""
    base = picture(rng)
    grey = base.convert("L")
    alpha = base.convert("RGBA")
    alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[274] = rng.randint(1, 8)
    ways: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("png", base, {}),
        ("png", grey, {}),
        ("png", alpha, {}),
        ("png", deep, {}),
        ("png", grey.convert("1"), {}),
        ("png", alpha.quantize(16), {"transparency": bytes(range(0, 256, 16))}),
        ("png", grey, {"transparency": 200}),
        ("png", base, {"save_all": True, "append_images": [base.rotate(180)]}),
        ("jpg", base, {}),
        ("jpg", grey, {"quality": 30}),
        ("jpg", base, {"progressive": True, "exif": exif}),
        ("jpg", base, {"restart_marker_blocks": 1}),
        ("jpg", base.convert("CMYK"), {}),
        ("gif", base.quantize(32), {}),
        ("gif", base, {"save_all": True, "append_images": [base.rotate(180)]}),
        ("bmp", base, {}),
        ("bmp", base.quantize(16), {}),
        ("ppm", base, {}),
        ("webp", base, {}),
        ("webp", alpha, {"lossless": True, "exif": exif}),
        ("webp", base, {"save_all": True, "append_images": [base.rotate(180)]}),
        ("tif", base, {"compression": "tiff_lzw", "exif": exif}),
        ("tif", deep, {}),
        ("tif", grey.convert("1"), {"compression": "group4"}),
        ("tif", base.convert("CMYK"), {"compression": "tiff_adobe_deflate"}),
        ("tif", base, {"compression": "jpeg"}),
        ("tif", Image.fromarray(np.full((24, 60), np.nan, np.float32)), {}),
        ("tif", base, {"save_all": True, "append_images": [base.rotate(180)]}),
    ]
    kinds = {"jpg": "JPEG", "tif": "TIFF"}
    result = []
    for suffix, image, options in ways:
        stream = io.BytesIO()
        image.save(stream, kinds.get(suffix, suffix.upper()), **options)
        result.append((suffix, stream.getvalue()))
    return result


def mutated_image(rng: random.Random, encoded: bytes, others: list[bytes]) -> bytes:
    """`encoded` with one to four changes. others: images to splice with."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        if encoded.startswith(_PNG) and rng.random() < 0.6:
            encoded = _mutated_png(rng, encoded)
        elif encoded.startswith(b"\xff\xd8") and rng.random() < 0.6:
            encoded = _mutated_jpeg(rng, encoded)
        elif encoded[:2] in (b"II", b"MM") and rng.random() < 0.6:
            encoded = _mutated_tiff(rng, encoded)
        elif rng.random() < 0.1:
            other = rng.choice(others)
            encoded = encoded[: rng.randint(0, len(encoded))] + other[rng.randint(0, len(other)) :]
        else:
            encoded = blindly(rng, encoded)
    return encoded


def blindly(rng: random.Random, content: bytes) -> bytes:
    """`content` with damage that ignores its format."""
    if not content:
        return bytes([rng.randrange(256)])
    damaged = bytearray(content)
    # Headers matter most: they get half of the damage.
    place = rng.randrange(min(len(damaged), 64 if rng.random() < 0.5 else len(damaged)))
    length = min(rng.choice((1, 2, 4, 8, 50, 500)), len(damaged) - place)
    way = rng.randrange(8)
    if way == 0:
        for _ in range(rng.choice((1, 3, 16))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del damaged[rng.randrange(len(damaged)) :]
    elif way == 2:
        del damaged[place : place + length]
    elif way == 3:
        damaged[place:place] = damaged[place : place + length] * rng.choice((1, 2, 100))
    elif way == 4:
        damaged[place:place] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    elif way == 5:
        _set(rng, damaged, place, rng.choice((1, 2, 4, 8)), rng.choice("<>"))
    elif way == 6:
        damaged[place : place + length] = rng.randbytes(length)
    else:
        damaged += rng.choice((bytes(1000), rng.randbytes(100), content))
    return bytes(damaged)


def _set(rng: random.Random, content: bytearray, place: int, size: int, order: str) -> None:
    """Set a number of `size` bytes at `place` to an extreme."""
    value = rng.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    field = value.to_bytes(size, "little" if order == "<" else "big")
    content[place : place + size] = field[: max(0, len(content) - place)]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with a valid checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _mutated_png(rng: random.Random, encoded: bytes) -> bytes:
    """Chunks moved, dropped, duplicated, added or changed, with valid checksums."""
    chunks: list[tuple[bytes, bytes]] = []
    place = len(_PNG)
    while place + 12 <= len(encoded):
        size = int.from_bytes(encoded[place : place + 4], "big")
        chunks.append((encoded[place + 4 : place + 8], encoded[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return blindly(rng, encoded)
    at = rng.randrange(len(chunks))
    kind, data = chunks[at]
    way = rng.randrange(7)
    if way == 0:
        del chunks[at]
    elif way == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif way == 2:
        rng.shuffle(chunks)
    elif way == 3:
        chunks[at] = (kind, blindly(rng, data))
    elif way == 4 and chunks[0][0] == b"IHDR":
        header = bytearray(chunks[0][1])
        _set(rng, header, *rng.choice(((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1))), ">")
        chunks[0] = (b"IHDR", bytes(header))
    elif way == 5:
        packed = zlib.compress(bytes(rng.choice((10, 1000, 10 << 20))))
        chunks.insert(rng.randrange(len(chunks) + 1), _more_chunks(rng, packed))
    else:
        chunks = [(k, zlib.compress(blindly(rng, _inflated(d)))) if k == b"IDAT" else (k, d) for k, d in chunks]
    return _PNG + b"".join(chunk(*parts) for parts in chunks)


def _more_chunks(rng: random.Random, packed: bytes) -> tuple[bytes, bytes]:
    return rng.choice(
        (
            (b"zTXt", b"note\0\0" + packed),
            (b"iTXt", b"note\0\1\0\0\0" + packed),
            (b"iCCP", b"\x1b[31mred\0\0" + packed),
            (b"tEXt", b"note\0" + b"\x1b[2J" * 1000),
            (b"IDAT", packed),
            (b"PLTE", rng.randbytes(rng.choice((0, 3, 48, 768, 769)))),
            (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 300)))),
            (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)),
            (b"acTL", struct.pack(">II", 2, 0)),
            (b"fcTL", struct.pack(">IIIIIHHBB", 0, 30_000, 30_000, 0, 0, 1, 1, 0, 0)),
            (b"gAMA", struct.pack(">I", rng.choice((0, 1, 45455, 0xFFFFFFFF)))),
            (b"eXIf", b"II*\0" + rng.randbytes(20)),
            (bytes(rng.randrange(256) for _ in range(4)), b"unknown"),
        )
    )


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 1 << 20)
    except zlib.error:
        return data


def _mutated_jpeg(rng: random.Random, encoded: bytes) -> bytes:
    """Segments and scans dropped, duplicated, moved or added, or their fields set to extremes."""
    marks = [i for i in range(2, len(encoded) - 1) if encoded[i] == 0xFF and 0xC0 <= encoded[i + 1] <= 0xFE]
    marks = [i for i in marks if not 0xD0 <= encoded[i + 1] <= 0xD7] or [len(encoded)]
    parts = [encoded[i:j] for i, j in zip(marks, [*marks[1:], len(encoded)], strict=True)]
    at = rng.randrange(len(parts))
    way = rng.randrange(6)
    if way == 0:
        del parts[at]
    elif way == 1:
        parts.insert(rng.randrange(len(parts) + 1), parts[at] * rng.choice((1, 2, 200)))
    elif way == 2:
        other = rng.randrange(len(parts))
        parts[at], parts[other] = parts[other], parts[at]
    elif way == 3:
        part = bytearray(parts[at])
        if len(part) > 4:
            _set(rng, part, rng.randrange(2, min(len(part), 24)), rng.choice((1, 2)), ">")
        parts[at] = bytes(part)
    elif way == 4:
        size = struct.pack(">HHB", 65_500, 65_500, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
        more = (
            b"\xff\xc0\0\x11\x08" + size,
            b"\xff\xd0\0\x15\xff\xc0\0\x11\x08" + size,
            b"\xff" * 1000,
            b"\xff\xfe\0\2" * 1000,
            b"\xff\xfe" + struct.pack(">H", 1002) + b"\x1b[31m" * 200,
            b"\xff\xe1\0\x20Exif\0\0" + rng.randbytes(24),
            b"\xff\xdd\0\4" + rng.randbytes(2),
        )
        parts.insert(at, rng.choice(more))
    else:
        parts[at] = blindly(rng, parts[at])
    return encoded[: marks[0]] + b"".join(parts)


def _mutated_tiff(rng: random.Random, encoded: bytes) -> bytes:
    """An entry of the first directory changed: its tag, type, count or value."""
    order = "<" if encoded[:2] == b"II" else ">"
    damaged = bytearray(encoded)
    start = int.from_bytes(encoded[4:8], "little" if order == "<" else "big")
    count = int.from_bytes(encoded[start : start + 2], "little" if order == "<" else "big")
    if not 0 < count < 100 or start + 2 + 12 * count > len(encoded):
        return blindly(rng, encoded)
    entry = start + 2 + 12 * rng.randrange(count)
    way = rng.randrange(5)
    if way == 4:  # the directory links to itself
        _set(rng, damaged, start + 2 + 12 * count, 4, order)
        damaged[start + 2 + 12 * count : start + 6 + 12 * count] = encoded[4:8]
    else:
        _set(rng, damaged, entry + (0, 2, 4, 8)[way], (2, 2, 4, 4)[way], order)
    return bytes(damaged)


def packed(rng: random.Random, count: int = 8) -> dict[str, bytes]:
    """Suffix -> undamaged archive of a few images: .zip, .tar, .tar.gz."""
    files = {f"in/{i:02d}/A{i}B{i}.{suffix}": encoded for i, (suffix, encoded) in enumerate(pictures(rng)[:count])}
    return {suffix: _pack(suffix, list(files.items())) for suffix in (".zip", ".tar", ".tar.gz")}


def _pack(suffix: str, files: list[tuple[str, bytes]], odd: bool = False) -> bytes:
    """Pack `files` (name, content). odd: add a link, and use rare compression methods."""
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, *((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA) if odd else ()))
    stream = io.BytesIO()
    if suffix == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter("ignore")  # duplicate names
            for i, (name, content) in enumerate(files):
                info = zipfile.ZipInfo("placeholder")
                info.filename = name.encode("utf-8", "replace").decode()
                info.compress_type = methods[i % len(methods)]
                if odd and i == 0:
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, content)
        return stream.getvalue()
    style = tarfile.PAX_FORMAT if len(files) % 2 else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=stream, mode="w", format=style, errors="surrogateescape") as tape:
        for i, (name, content) in enumerate(files):
            entry = tarfile.TarInfo(name.replace("\ud800", "?"))
            entry.size = len(content)
            if odd and i == 0:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tape.addfile(entry, io.BytesIO(content))
    return stream.getvalue() if suffix == ".tar" else gzip.compress(stream.getvalue(), 1)


def mutated_archive(rng: random.Random, suffix: str, content: bytes) -> bytes:
    """A damaged archive of the format of `suffix`, or a new one with hostile names."""
    if rng.random() < 0.3:
        names = rng.sample(NAMES, rng.choice((1, 2, 4)))
        if rng.random() < 0.5:
            names += names
        files = [(name, rng.choice((b"", b"x", content[:2000], bytes(1 << 20)))) for name in names]
        content = _pack(suffix, [*files, ("fine/AB12.png", b"P5 8 8 255 " + bytes(64))], rng.random() < 0.1)
        if rng.random() < 0.7:
            return content
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.3:
            content = blindly(rng, content)
        elif suffix == ".zip":
            content = _mutated_zip(rng, content)
        elif suffix == ".tar":
            content = _mutated_tar(rng, content)
        else:
            content = _mutated_gzip(rng, content)
    return content


def _mutated_zip(rng: random.Random, content: bytes) -> bytes:
    """A field of a local header, of the central directory or of its end set to an extreme."""
    kinds = {
        b"PK\1\2": (
            (4, 2),
            (6, 2),
            (8, 2),
            (10, 2),
            (16, 4),
            (20, 4),
            (24, 4),
            (28, 2),
            (30, 2),
            (32, 2),
            (38, 4),
            (42, 4),
        ),
        b"PK\3\4": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
        b"PK\5\6": ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    }
    mark = rng.choice(list(kinds))
    places = [i for i in range(len(content)) if content.startswith(mark, i)]
    if not places:
        return blindly(rng, content)
    damaged = bytearray(content)
    place = rng.choice(places)
    offset, size = rng.choice(kinds[mark])
    way = rng.randrange(4)
    if way == 0 and mark != b"PK\5\6":  # another name of the same length, perhaps not text
        name = place + (46 if mark == b"PK\1\2" else 30)
        damaged[name + 1 : name + 3] = rng.choice((b"\xff\xfe", b"..", b"\0\0", b"//", b"\x1b["))
        damaged[place + (9 if mark == b"PK\1\2" else 7)] |= 8 * rng.randrange(2)  # the flag for UTF-8
    elif way == 1:  # two overlapping entries
        damaged[place + offset : place + offset + size] = content[places[0] + offset : places[0] + offset + size]
    elif way == 2 and mark == b"PK\5\6":  # a ZIP64 end before it
        record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, *rng.choices(_EXTREMES, k=4))
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, rng.choice((place, *_EXTREMES)), 1)
        damaged[place:place] = record + locator
    else:
        _set(rng, damaged, place + offset, size, "<")
    return bytes(damaged)


def _mutated_tar(rng: random.Random, content: bytes) -> bytes:
    """A header field set to an odd value, with a valid checksum, or an extended header added."""
    headers = [i for i in range(0, len(content) - 511, 512) if content[i + 257 : i + 262] == b"ustar"]
    if not headers:
        return blindly(rng, content)
    damaged = bytearray(content)
    place = rng.choice(headers)
    start, size = rng.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
    if start == 156:
        damaged[place + 156] = rng.choice(b"01234567xgLKSXVMDN\0\xff")
    elif rng.random() < 0.3:
        damaged[place:place] = _extended(rng)
    else:
        odd = (
            b"7" * size,
            b"\xff" * size,
            b"\x80" + bytes(size - 1),
            b"-1",
            b"../",
            b"/",
            b"\x1b[31m",
            b"",
            rng.randbytes(size),
        )
        damaged[place + start : place + start + size] = rng.choice(odd)[:size].ljust(size, b"\0")
    _fix_checksum(damaged, place)
    return bytes(damaged)


def _extended(rng: random.Random) -> bytes:
    """An extended header (POSIX or GNU) with an odd record."""
    record = rng.choice(
        (
            b"20 size=-1\n",
            b"20 size=99999999999999999999\n",
            b"9" * 5000 + b" size=1\n",
            b"0 path=x\n",
            b"30 path=../../../../x.png\n",
            b"25 path=a\0b\x1b[31m.png\n",
            b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n",
            b"30 GNU.sparse.map=0,1,x,99999\n",
            b"40 GNU.sparse.size=999999999999999\n",
            b"20 hdrcharset=BINARY\n18 path=\xff\xfe.png\n",
            b"20 hdrcharset=\xff\xff\n",
            rng.randbytes(60),
        )
    )
    header = bytearray(512)
    header[:8] = b"extended"
    header[100:108] = b"0000644\0"
    declared = rng.choice((len(record), len(record), 1 << 30))
    header[124:136] = b"%011o\0" % declared
    header[156:157] = rng.choice((b"x", b"g", b"L", b"K"))
    header[257:265] = b"ustar\x0000"
    _fix_checksum(header, 0)
    return bytes(header) + record.ljust(-(-len(record) // 512) * 512, b"\0")


def _fix_checksum(content: bytearray, place: int) -> None:
    content[place + 148 : place + 156] = b" " * 8
    content[place + 148 : place + 156] = b"%06o\0 " % sum(content[place : place + 512])


def _mutated_gzip(rng: random.Random, content: bytes) -> bytes:
    try:
        inner = zlib.decompressobj(31).decompress(content, 1 << 24)
    except zlib.error:
        return blindly(rng, content)
    damaged = _mutated_tar(rng, inner)
    if rng.random() < 0.1:
        damaged += bytes(rng.choice((512, 1 << 20, 20 << 20)))
    whole = gzip.compress(damaged, 1)
    return whole[: rng.randrange(len(whole))] if rng.random() < 0.1 else whole


# Replacements for values of params.yaml.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 10**6, 2**31 - 1, 2**31, 2**63, 10**30, 10**400, 0.5, -0.5, 1e-300, 1e308),
    *(
        float("inf"),
        float("-inf"),
        float("nan"),
        "",
        " ",
        "all",
        "standin",
        "archive",
        "crnn",
        "dummy",
        "grid",
        "union",
    ),
    *("../../etc/passwd", "a/b", "a\0b", "\x1b[31m", "x" * 5000, "\u0430\u200b", "1e-3", "null", "yes"),
    *(
        [],
        [0],
        [0, 0],
        [-1],
        [99],
        ["fournierp", "fournierp"],
        ["nobody"],
        [[]],
        [None],
        [1, 2, 3, 4],
        [4096] * 3,
        [1e9] * 4,
    ),
    *({}, {"a": 1}, {"training": None}, {"training": {"steps": 0}}, {1: 2}, {None: 1}, {"images": 10**12}),
)
_LINES = (
    "bomb: &a [x, x]\nmore: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nyet: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n"
    "again: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\nend: [*d, *d, *d, *d, *d, *d, *d, *d, *d]",
    "data: &loop {source: *loop}",
    "a: &a {x: 1}\nb: {<<: [*a, *a, *a]}",
    "a: &a {x: 1}\nb: {<<: *a, <<: *a}",
    "<<: {source: archive}",
    "x: " + "[" * 3000,
    "x: " + "[" * 200 + "]" * 200,
    "x: " + "{a: " * 900 + "1" + "}" * 900,
    "\tx: 1",
    "x: 2001-13-45",
    "x: 0b_",
    "x: " + "9" * 5000,
    "x: !!int ''",
    "x: !!float a",
    "x: !!bool maybe",
    "x: !!timestamp a",
    "x: !!binary '*'",
    "x: !!python/object/apply:os.system [echo]",
    "? [a, b]\n: 1",
    "? {a: b}\n: 1",
    "x: !!set {a, b}",
    "x: !!omap [a: 1]",
    "1: x",
    "~: x",
    "true: x",
    "x: *nowhere",
    "%YAML 9.9\n---\nx: 1",
    "---\nx: 1\n---\ny: 2",
    "x: |\n  a\n b",
    "x: 'unfinished",
    "x: \x07",
    "\ufeffx: 1",
    "x" * 20_000 + ": 1",
    "# " + "long " * 30_000,
)


def mutated_params(rng: random.Random, text: str) -> bytes:
    """The params file `text` with changed values, keys, lines or bytes."""
    if rng.random() < 0.65:
        document = yaml.safe_load(text)
        for _ in range(rng.choice((1, 1, 1, 3))):
            # Most parameters belong to models.
            models = document.get("models")
            _change(rng, models if isinstance(models, dict) and rng.random() < 0.5 else document)
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=rng.random() < 0.5).encode("utf-8", "replace")
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        way = rng.randrange(6)
        if way <= 1:
            lines.insert(rng.choice((0, at, len(lines))), rng.choice(_LINES))
        elif way == 2:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif way == 3:
            lines[at] = lines[at].replace("  ", "\t", 1) if rng.random() < 0.5 else lines[at][1:]
        elif way == 4:
            del lines[at]
        else:
            lines[at] = lines[at].replace(
                ": ", f": {rng.choice(('&a ', '*a ', '!!str ', '!!int ', '[', '{', '@', '| '))}", 1
            )
    content = "\n".join(lines).encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "replace")
    return blindly(rng, content) if rng.random() < 0.3 else content


def _change(rng: random.Random, document: Any) -> None:
    """Change one entry somewhere in nested mappings and lists."""
    node = document
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        break
    way = rng.randrange(8)
    if way == 0:
        del node[key]
    elif way == 1 and isinstance(node, dict):
        node[rng.choice((f"{key}s", str(key)[:-1], str(key).upper(), 7, None, "x" * 300, "\x1b[1m"))] = node.pop(key)
    elif way == 2 and isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), rng.choice((node[key], *_VALUES)))
    else:
        node[key] = rng.choice(_VALUES)
