"""After a crash: one run at a time, and nothing of a dead one is left half-written."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from dvc.utils.serialize import load_yaml  # type: ignore[import-untyped]
from voluptuous import Invalid

from captchabench.errors import InputError
from captchabench.files import replacing_file, write_text

# DVC ignores this folder in Git, and every repository has one.
_OWN = Path(".dvc/tmp")
_GOOD = _OWN / "flow.dvc.lock"
_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True)
class RunLock:
    """The right to run. handle: what stages inherit, so that it stays taken until the last of them has ended.

    left_behind: the id of the run that had it last, if that one died; else "".
    """

    handle: int
    left_behind: str


@contextmanager
def run_lock(root: Path, run: str) -> Iterator[RunLock]:
    """Hold the only right to run in the repository at `root`. run: our id, for others to see.

    Raises Busy where another run has it.
    """
    path = root / _OWN / "flow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(handle):
            raise Busy(f"another run is at work here ({_read(handle) or 'just started'}); wait for it to end")
        left_behind = _read(handle)
        _write(handle, run)
        try:
            yield RunLock(handle, left_behind)
        finally:
            _write(handle, "")
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    """Whether the lock is ours. The stages of a run that has just died take a moment to die, too."""
    patience = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > patience:
                return False
            time.sleep(0.05)


def mend(root: Path) -> list[str]:
    """Put right what DVC was writing when a run was killed; return a line for each thing. Only with the lock.

    A stage that plain DVC ran and whose entry in dvc.lock is lost would run again: DVC's own run cache has no stage
    with an output that Git keeps.
    """
    mended = []
    lock, good = root / "dvc.lock", root / _GOOD
    found, kept = _entries(lock), _entries(good)
    if lock.exists() and found is None:
        if kept is None:
            lock.unlink()
        else:
            with replacing_file(lock) as temporary:
                shutil.copyfile(good, temporary)
        mended.append("dvc.lock was cut short: the last good one is back")
    elif found is not None:
        with replacing_file(good) as temporary:
            shutil.copyfile(lock, temporary)
    claims = root / _OWN / "rwlock"
    if claims.exists() and (left := _living(claims)) is not None:
        write_text(claims, left)
        mended.append("DVC's list of files in use had entries of dead processes: removed")
    return mended


def keep_lock_file(root: Path) -> None:
    """Set a copy of dvc.lock aside, for `mend`; leaves the one before where DVC is writing just now."""
    with suppress(_CutShort, FileNotFoundError), replacing_file(root / _GOOD) as temporary:
        shutil.copyfile(root / "dvc.lock", temporary)
        now = _entries(temporary)
        if now is None or not now >= (_entries(root / _GOOD) or set()):
            raise _CutShort


class Busy(InputError):
    """Another run is at work."""


class _CutShort(Exception):
    """Half of a file."""


def _entries(path: Path) -> set[str] | None:
    """The stages of a lock file of DVC's; None if it is not there, or not whole."""
    try:
        if not path.read_bytes().endswith(b"\n"):
            return None
        return set(COMPILED_LOCKFILE_SCHEMA(load_yaml(str(path))).get("stages", {}))
    except (DvcException, Invalid, OSError):
        return None


def _living(claims: Path) -> str | None:
    """DVC's list of files in use without the entries of processes that are gone; None if that changes nothing.

    DVC itself takes a dead process for a living one where nobody has reaped it, or where its number is used again.
    """
    try:
        old = json.loads(claims.read_bytes())
        claimed = {mode: old.get(mode, {}) for mode in ("read", "write")}
        new = {
            "read": {
                path: kept
                for path, of in claimed["read"].items()
                if (kept := [one for one in of if _lives(one["pid"])])
            },
            "write": {path: one for path, one in claimed["write"].items() if _lives(one["pid"])},
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return "{}"
    return None if new == claimed else json.dumps(new)


def _lives(number: int) -> bool:
    """Whether a process is one of DVC's and at work."""
    try:
        process = psutil.Process(number)
        return process.status() != psutil.STATUS_ZOMBIE and "dvc" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _read(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace")
