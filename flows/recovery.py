"""After a crash: one run at a time, and nothing of a dead one is left half-written.

`python -m flows.recovery` mends the current folder's repository, before plain `dvc repro`. With `--cache` it reads all
of DVC's cache, too, and removes what is not what it was: DVC itself takes its word for it, and puts it back over what
a stage has made anew.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.lock import LockError, make_lock  # type: ignore[import-untyped]
from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from dvc.utils.serialize import load_yaml  # type: ignore[import-untyped]
from voluptuous import Invalid

from captchabench.errors import InputError
from captchabench.storage.files import write_text
from captchabench.storage.lockfile import KEPT, LOCK, entries, is_beginning, restored

# DVC ignores this folder in Git, and every repository has one.
_OWN = Path(".dvc/tmp")
_PATIENCE_SECONDS = 3.0
_CACHE = Path(".dvc/cache/files/md5")
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
# Where stages write, and DVC puts back.
_MADE = ("data", "metrics", "reports")
# DVC's have 22 characters drawn by lot: .X.tmp, and HASH.dir.X.tmp.
_DVCS = re.compile(r"\.[\w-]{22}\.tmp$")


@dataclass(frozen=True)
class RunLock:
    """The right to run. handle: what stages inherit, so that it stays taken until the last of them has ended.

    left_behind: the id of the run that had it last, if that one died; else "".
    """

    handle: int
    left_behind: str


@contextmanager
def run_lock(root: Path, run: str, *, hand_on: bool = False) -> Iterator[RunLock]:
    """Hold the only right to run in the repository at `root`. run: our id, for others to see.

    hand_on: what a dead run left behind is there for the next run, too. Raises Busy where another run has it.
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
            _write(handle, left_behind if hand_on else "")
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
    """Put right what DVC was writing when it was killed; return a line for each thing. Only while no DVC writes.

    A stage that plain DVC ran and whose entry in dvc.lock is lost would run again: DVC's own run cache has no stage
    with an output that Git keeps.
    """
    mended = []
    if _mend_lock_file(root):
        mended.append("dvc.lock was cut short: what it said is back, but perhaps for its last stage")
    claims = root / _OWN / "rwlock"
    if claims.exists() and (left := _living(claims)) is not None:
        write_text(claims, left)
        mended.append("DVC's list of files in use had entries of dead processes: removed")
    if swept := _sweep(root):
        mended.append(f"{swept} temporary files that DVC left: removed")
    return mended


def _sweep(root: Path) -> int:
    """Remove the temporary files of DVC's, in its cache and beside outputs; how many there were.

    A stage's folder in the run cache goes too, if it is left empty: DVC fails on one.
    """
    folders = [root / ".dvc/cache", *(root / name for name in _MADE)]
    left = [path for folder in folders for path in folder.rglob("*.tmp") if _DVCS.search(path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    for folder in (root / ".dvc/cache/runs").glob("*/*"):
        # Others are not empty.
        with suppress(OSError):
            folder.rmdir()
    return len(left)


def _mend_lock_file(root: Path) -> bool:
    """Put back the entries that dvc.lock has lost; whether it was cut short. One that is whole is set aside."""
    lock, copy = root / LOCK, root / KEPT
    if not lock.exists():
        copy.unlink(missing_ok=True)
        return False
    now, kept = (path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (lock, copy))
    # An empty one is the first that was ever begun, and no copy is as empty.
    if now and now == kept:
        return False
    # A merge that a person has not finished is theirs to finish.
    if "\n<<<<<<< " in now:
        return False
    # Cut at the end of a line it may well be in order. So is an earlier commit's.
    if _in_order(lock) and not (is_beginning(now, kept) and now != _committed(root)):
        write_text(copy, now)
        return False
    if entries(whole := restored(now, kept)):
        write_text(lock, whole)
    else:
        lock.unlink()
    return True


def _in_order(lock: Path) -> bool:
    """Whether DVC can read its lock file, and its last line is whole."""
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(str(lock)))
        return lock.read_bytes().endswith(b"\n")
    except (DvcException, Invalid):
        return False


def _committed(root: Path) -> str:
    """Git's dvc.lock; empty where it has none."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{LOCK}"],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return "" if shown.returncode else shown.stdout


def clear_rot(root: Path) -> list[str]:
    """Remove what is damaged in DVC's cache; return a line for each. DVC names everything there by its MD5."""
    removed = []
    for path in sorted((root / _CACHE).glob("??/*")):
        name = path.parent.name + path.name
        if _OBJECT.fullmatch(name) and not name.startswith(_md5(path)):
            path.unlink()
            removed.append(f"{path.relative_to(root)}: was damaged, removed; `dvc repro` makes it again where it lacks")
    return removed


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


class Busy(InputError):
    """Another run is at work."""


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


def main(words: Sequence[str] | None = None) -> None:
    """Mend what a killed DVC left, and say what. Where no DVC has been, or one is at work, there is nothing to mend."""
    parser = argparse.ArgumentParser(prog="python -m flows.recovery", description=main.__doc__)
    parser.add_argument("--cache", action="store_true", help="also remove what is damaged in DVC's cache")
    given = parser.parse_args(words)
    if not _OWN.exists():
        return
    try:
        with make_lock(str(_OWN / "lock")):
            for line in [*mend(Path()), *(clear_rot(Path()) if given.cache else [])]:
                print(line, file=sys.stderr)
    except LockError:
        return
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or _OWN}: {error.strerror}; DVC could not write here either")


if __name__ == "__main__":
    main()
