"""Atomic outputs: write a temporary file in the same folder, then rename it. Inputs: regular files only."""

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

# `.dvcignore` lists it.
_SUFFIX = ".tmp"
_FIXES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "raise the quota or make room",
    errno.EFBIG: "raise the file size limit",
    errno.EROFS: "write elsewhere, or make the disk writable",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EIO: "check the disk for errors",
}


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on failure it is removed.

    Temporary files that a killed process left for the same path are removed first. Raises InputError if the file
    cannot be written; then `path` is unchanged.
    """
    with _explaining_errors(path):
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
    """Yield an empty temporary folder next to `path`; on success it replaces `path`.

    Otherwise like `replacing_file`. Not fully atomic: a process killed between moving the old folder away and renaming
    the new one leaves no folder at `path`.
    """
    with _explaining_errors(path):
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
    """Advice for a failed read or write."""
    return f"{_FIXES.get(error.errno or 0, 'check the disk for errors')}, then run this again"


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON with sorted keys, atomically.

    Raises ValueError for NaN and infinities; leave such numbers out.
    """
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """`value` as indented JSON with sorted keys and a final newline. Raises ValueError for NaN and infinities."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def open_regular(path: Path) -> BinaryIO:
    """Open the file at `path` for reading. Symbolic links are followed.

    Raises OSError, also if the path is not a regular file: opening a pipe could block, and a device may have no end.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    # Files of /proc look empty, and reading some of them can block.
    if status.st_size == 0:
        os.close(handle)
        raise OSError(errno.ENODATA, "Empty", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of the file at `path`, cut off after `max_bytes` + 1 bytes. Raises: see `open_regular`."""
    with open_regular(path) as file:
        return file.read(min(max_bytes, os.fstat(file.fileno()).st_size) + 1)


def _claim(path: Path, make: Callable[[Path], tuple[int, str]]) -> tuple[Path, int]:
    """A new temporary file or folder next to `path`, and a handle that locks it until it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{escape(path.name)}.*{_SUFFIX}"):
        _remove_unless_locked(leftover)
    while True:
        handle, name = make(path)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Another process may have removed it before it was locked.
        if Path(name).exists():
            return Path(name), handle
        os.close(handle)


def _new_file(path: Path) -> tuple[int, str]:
    return tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)


def _new_folder(path: Path) -> tuple[int, str]:
    name = tempfile.mkdtemp(_SUFFIX, f".{path.name}.", path.parent)
    return os.open(name, os.O_RDONLY), name


def _remove_unless_locked(leftover: Path) -> None:
    """Remove a temporary file or folder unless its writer is still running."""
    try:
        handle = os.open(leftover, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """Write the bytes to disk before the rename: after a power cut the rename could otherwise survive without them."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explaining_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Compared as absolute paths, since those of temporary files are absolute.
        failed = None if error.filename is None else Path(str(error.filename)).absolute()
        unrelated = failed is not None and not failed.is_relative_to(path.parent.absolute())
        if error.errno not in _FIXES or unrelated:
            raise
        reason = os.strerror(error.errno)
        raise InputError(f"{path}: cannot be written ({reason}); {advice(error)}") from None
