"""Outputs that are whole or absent: write beside the place, then rename. Inputs that are files and nothing else."""

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

from captchabench.errors import InputError

# `.dvcignore` knows it.
_SUFFIX = ".tmp"
_MENDS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "raise the quota, or make room",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "write elsewhere, or make the disk writable",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EIO: "look after the disk",
}


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on failure it is removed.

    What a killed process left of its own is removed first. Raises InputError where the disk does not take it: then
    `path` is as it was.
    """
    with _explained(path):
        temporary, handle = _claim(path, _new_file)
        try:
            yield temporary
            temporary.chmod(0o644)
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it takes the place of `path`.

    As `replacing_file`. Killed between taking the old folder away and putting the new one in its place, it leaves
    none.
    """
    with _explained(path):
        temporary, handle = _claim(path, _new_folder)
        old = temporary.with_suffix(f".old{_SUFFIX}")
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                _flush(file)
            if path.exists():
                path.rename(old)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
            os.close(handle)


def advice(error: OSError) -> str:
    """What to do where the disk does not take, or give, a file."""
    return f"{_MENDS.get(error.errno or 0, 'look after the disk')}, then run this again"


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys, whole or not at all.

    Raises ValueError for NaN and infinities: leave such a number out instead.
    """
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """`value` as a page of JSON: sorted keys, no NaN, a line's end at the end."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def open_regular(path: Path) -> BinaryIO:
    """Open the file at `path` for reading. A link counts as what it leads to.

    Raises OSError also where that is no regular file: a pipe would be waited for, a device may never end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    # Files of /proc look empty, and some of them are waited for.
    if os.fstat(handle).st_size == 0:
        os.close(handle)
        raise OSError(errno.ENODATA, "Empty", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of the file at `path`; of a larger one than `most` bytes, one more. Raises: see `open_regular`."""
    with open_regular(path) as file:
        return file.read(min(most, os.fstat(file.fileno()).st_size) + 1)


def _claim(path: Path, make: Callable[[Path], tuple[int, str]]) -> tuple[Path, int]:
    """A temporary place beside `path` that others see is in use, and the handle that says so until it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{escape(path.name)}.*{_SUFFIX}"):
        _sweep(left)
    while True:
        handle, name = make(path)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Somebody may have swept it before it was locked.
        if Path(name).exists():
            return Path(name), handle
        os.close(handle)


def _new_file(path: Path) -> tuple[int, str]:
    return tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)


def _new_folder(path: Path) -> tuple[int, str]:
    name = tempfile.mkdtemp(_SUFFIX, f".{path.name}.", path.parent)
    return os.open(name, os.O_RDONLY), name


def _sweep(left: Path) -> None:
    """Remove a temporary file or folder unless its writer lives."""
    try:
        handle = os.open(left, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """Have the disk hold the bytes before the name says they are there: a rename can outlive them in a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Names of temporary files are absolute.
        where = None if error.filename is None else Path(str(error.filename)).absolute()
        elsewhere = where is not None and not where.is_relative_to(path.parent.absolute())
        if error.errno not in _MENDS or elsewhere:
            raise
        reason = os.strerror(error.errno)
        raise InputError(f"{path}: cannot be written ({reason}); {advice(error)}") from None
