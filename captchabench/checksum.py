"""A CRC-32 over all bytes of a file, kept inside the file itself: damage is found on reading, wherever it is.

A writer puts `UNSEALED` into the file, once and last of its kind; `seal` replaces it by the sum. The sum is of the
file as it was before. A disk's damage is found; whoever changes a file on purpose can of course seal it again.
"""

import os
from pathlib import Path
from zlib import crc32

from captchabench.errors import InputError

_MARK = b"captchabench-crc32:"
UNSEALED = "captchabench-crc32:--------"


class Damaged(InputError):
    """A file whose bytes are not those that were written."""


def seal(path: Path) -> None:
    """Put the sum of the file at `path` in the place of `UNSEALED`."""
    with path.open("r+b") as file:
        content = file.read()
        os.pwrite(file.fileno(), _sum(content), content.rindex(UNSEALED.encode()))


def sealed(content: bytes) -> bytes:
    """`content` with its sum in the place of `UNSEALED`."""
    before, _, after = content.rpartition(UNSEALED.encode())
    return before + _sum(content) + after


def check_sealed(path: Path, mend: str) -> bytes:
    """Check the sealed file at `path`; return its bytes.

    Raises Damaged, with what to do in `mend`, where they differ from what was written; OSError where the file cannot
    be read.
    """
    content = path.read_bytes()
    if (problem := flaw(content)) is not None:
        raise Damaged(f"{path}: is damaged ({problem}); {mend}")
    return content


def flaw(content: bytes) -> str | None:
    """What is wrong with the bytes of a sealed file; None if nothing is."""
    place = content.rfind(_MARK)
    if place < 0:
        return "it holds no checksum"
    view = memoryview(content)
    end = place + len(UNSEALED)
    found = b"%08x" % crc32(view[end:], crc32(UNSEALED.encode(), crc32(view[:place])))
    kept = bytes(view[place + len(_MARK) : end])
    return None if found == kept else f"its CRC-32 is {found.decode()}, not {kept.decode('ascii', 'replace')}"


def is_sealed(content: bytes) -> bool:
    """Whether there is a checksum in `content`, right or wrong."""
    return _MARK in content


def _sum(content: bytes) -> bytes:
    return _MARK + b"%08x" % crc32(content)
