"""A CRC-32 over all bytes of a file, kept inside the file itself: damage is found on reading, wherever it is.

A writer puts `UNSEALED` into the file, once and last of its kind; `seal` replaces it by the sum. The sum is of the
file as it was before. A disk's damage is found; whoever changes a file on purpose can of course seal it again.
"""

import os
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from captchabench.errors import InputError
from captchabench.storage.files import open_regular

_MARK = b"captchabench-crc32:"
UNSEALED = "captchabench-crc32:--------"
_PIECE = 1 << 20


class Damaged(InputError):
    """A file whose bytes are not those that were written."""


def seal(path: Path) -> None:
    """Put the sum of the file at `path` in the place of `UNSEALED`."""
    with path.open("r+b") as file:
        place = _place(file)
        assert place is not None, f"{path}: nothing to seal"
        total = _sum_to(file, 0, file.seek(0, SEEK_END), 0)
        os.pwrite(file.fileno(), b"%08x" % total, place + len(_MARK))


def sealed(content: bytes) -> bytes:
    """`content` with its sum in the place of `UNSEALED`."""
    before, _, after = content.rpartition(UNSEALED.encode())
    return before + _MARK + b"%08x" % crc32(content) + after


def read_sealed(path: Path, mend: str) -> bytes:
    """The bytes of the sealed file at `path`.

    Raises Damaged, with what to do in `mend`, where they differ from what was written; OSError where the file cannot
    be read.
    """
    with open_regular(path) as file:
        content = file.read()
    if (problem := flaw(content)) is not None:
        raise Damaged(f"{path}: is damaged ({problem}); {mend}")
    return content


def check_sealed(path: Path, mend: str) -> None:
    """Check the sealed file at `path`, of which only a piece is in memory at a time. Raises: see `read_sealed`."""
    with open_regular(path) as file:
        if (problem := _flaw(file)) is not None:
            raise Damaged(f"{path}: is damaged ({problem}); {mend}")


def flaw(content: bytes) -> str | None:
    """What is wrong with the bytes of a sealed file; None if nothing is."""
    return _flaw(BytesIO(content))


def _flaw(file: BinaryIO) -> str | None:
    place = _place(file)
    if place is None:
        return "it holds no checksum"
    total = _sum_to(file, 0, place, 0)
    kept = file.read(len(UNSEALED))[len(_MARK) :].decode("ascii", "replace")
    end = file.seek(0, SEEK_END)
    total = _sum_to(file, place + len(UNSEALED), end, crc32(UNSEALED.encode(), total))
    return None if f"{total:08x}" == kept else f"its CRC-32 is {total:08x}, not {kept}"


def _place(file: BinaryIO) -> int | None:
    """Where the last checksum is, sought from the end."""
    end = file.seek(0, SEEK_END)
    while end > 0:
        start = max(0, end - _PIECE)
        file.seek(start)
        # One may lie across two pieces.
        found = file.read(end - start + len(_MARK) - 1).rfind(_MARK)
        if found >= 0:
            return start + found
        end = start
    return None


def _sum_to(file: BinaryIO, start: int, end: int, total: int) -> int:
    file.seek(start)
    while start < end and (piece := file.read(min(_PIECE, end - start))):
        total = crc32(piece, total)
        start += len(piece)
    return total


def is_sealed(content: bytes) -> bool:
    """Whether there is a checksum in `content`, right or wrong."""
    return _MARK in content
