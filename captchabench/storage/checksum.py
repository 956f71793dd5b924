"""A CRC-32 over all bytes of a file, stored inside the file, so that reading detects damage anywhere in it.

The writer puts the placeholder `UNSEALED` into the file, after any other text that looks like one. `seal` replaces it
with the checksum of the file that still has the placeholder. This detects disk errors, not tampering: whoever changes
a file on purpose can seal it again.
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
_CHUNK_BYTES = 1 << 20


class Damaged(InputError):
    """A file whose bytes differ from those that were written."""


def seal(path: Path) -> None:
    """Replace `UNSEALED` in the file at `path` with the checksum of the file."""
    with path.open("r+b") as file:
        offset = _mark_offset(file)
        assert offset is not None, f"{path}: nothing to seal"
        crc = _update_crc(file, 0, file.seek(0, SEEK_END), 0)
        os.pwrite(file.fileno(), b"%08x" % crc, offset + len(_MARK))


def sealed(content: bytes) -> bytes:
    """`content` with `UNSEALED` replaced by its checksum."""
    before, _, after = content.rpartition(UNSEALED.encode())
    return before + _MARK + b"%08x" % crc32(content) + after


def read_sealed(path: Path, fix: str) -> bytes:
    """The bytes of the sealed file at `path`.

    fix: what the user should do about a damaged file. Raises Damaged if the bytes differ from those that were written,
    OSError if the file cannot be read.
    """
    with open_regular(path) as file:
        content = file.read()
    if (problem := flaw(content)) is not None:
        raise Damaged(f"{path}: is damaged ({problem}); {fix}")
    return content


def check_sealed(path: Path, fix: str) -> None:
    """Check the sealed file at `path` chunk by chunk, without holding it in memory. Raises: see `read_sealed`."""
    with open_regular(path) as file:
        if (problem := _flaw(file)) is not None:
            raise Damaged(f"{path}: is damaged ({problem}); {fix}")


def flaw(content: bytes) -> str | None:
    """What is wrong with the bytes of a sealed file; None if they are intact."""
    return _flaw(BytesIO(content))


def _flaw(file: BinaryIO) -> str | None:
    offset = _mark_offset(file)
    if offset is None:
        return "it holds no checksum"
    crc = _update_crc(file, 0, offset, 0)
    stored = file.read(len(UNSEALED))[len(_MARK) :].decode("ascii", "replace")
    end = file.seek(0, SEEK_END)
    crc = _update_crc(file, offset + len(UNSEALED), end, crc32(UNSEALED.encode(), crc))
    return None if f"{crc:08x}" == stored else f"its CRC-32 is {crc:08x}, not {stored}"


def _mark_offset(file: BinaryIO) -> int | None:
    """The offset of the last checksum, searched for from the end of the file."""
    end = file.seek(0, SEEK_END)
    while end > 0:
        start = max(0, end - _CHUNK_BYTES)
        file.seek(start)
        # The overlap finds a mark that spans two chunks.
        index = file.read(end - start + len(_MARK) - 1).rfind(_MARK)
        if index >= 0:
            return start + index
        end = start
    return None


def _update_crc(file: BinaryIO, start: int, end: int, crc: int) -> int:
    """`crc` continued over the bytes of `file` from `start` to `end`."""
    file.seek(start)
    while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
        crc = crc32(chunk, crc)
        start += len(chunk)
    return crc


def is_sealed(content: bytes) -> bool:
    """Whether `content` contains a checksum, valid or not."""
    return _MARK in content
