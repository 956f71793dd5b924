"""Recovery after a crash: allows one run at a time and repairs what a killed run left half-written.

`python -m flows.recovery` repairs the repository in the current folder and checks the folder of archives, for use
before plain `dvc repro`. With `--cache` it also reads all of DVC's cache and removes damaged files. DVC itself trusts
its cache, and would restore a damaged file over one that a stage has made again.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from dvc.config import Config  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.lock import LockError, make_lock  # type: ignore[import-untyped]
from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from dvc.utils.serialize import load_yaml  # type: ignore[import-untyped]
from voluptuous import Invalid

from captchabench import git
from captchabench.errors import InputError, first_line
from captchabench.storage.files import write_text
from captchabench.storage.lockfile import BACKUP, LOCK, entries, is_beginning, restored
from captchabench.streams import allow_any_text
from flows.downloads import check_downloads

# Every DVC repository has this folder, and DVC excludes it from Git.
_DVC_TMP = Path(".dvc/tmp")
_PATIENCE_SECONDS = 3.0
_CACHE = Path(".dvc/cache")
# In a cache that other clones use, DVC may still be writing younger files.
_UNFINISHED_SECONDS = 3600.0
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
# Folders in which stages write and DVC restores outputs.
_OUTPUT_FOLDERS = ("data", "metrics", "reports")
# DVC's temporary files have 22 random characters X: .X.tmp and HASH.dir.X.tmp.
_DVC_TEMPORARY = re.compile(r"\.[\w-]{22}\.tmp$")


@dataclass(frozen=True)
class RunLock:
    """The lock of a run. handle: stages inherit it, so that the lock is held until the last of them has ended.

    left_behind: the id of the previous run if its process died; otherwise "".
    """

    handle: int
    left_behind: str


@contextmanager
def run_lock(root: Path, run: str, *, keep_left_behind: bool = False) -> Iterator[RunLock]:
    """Hold the run lock of the repository at `root`. run: our id, which is shown to others.

    keep_left_behind: leave the id of a dead run for the next run, too. Raises Busy if another run holds the lock.
    """
    path = root / _DVC_TMP / "flow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _acquire(handle):
            raise Busy(f"another run is at work here ({_read(handle) or 'just started'}); wait for it to end")
        left_behind = _read(handle)
        _write(handle, run)
        try:
            yield RunLock(handle, left_behind)
        finally:
            _write(handle, left_behind if keep_left_behind else "")
    finally:
        os.close(handle)


def _acquire(handle: int) -> bool:
    """Try to lock; return whether it succeeded. The stages of a run that has just died may hold it for a moment."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)


def repair(root: Path) -> list[str]:
    """Repair what DVC was writing when it was killed; return one line per repair. No DVC may be writing meanwhile.

    If the entry in dvc.lock of a stage that plain DVC ran is lost, the stage runs again: DVC's own run cache leaves out
    stages with an output that Git keeps.
    """
    repaired = []
    if _repair_lock_file(root):
        repaired.append("dvc.lock was truncated: restored, except perhaps the entry of its last stage")
    list_file = root / _DVC_TMP / "rwlock"
    if list_file.exists() and (left := _without_dead(list_file)) is not None:
        write_text(list_file, left)
        repaired.append("DVC's list of files in use had entries of dead processes: removed")
    if swept := _sweep(root):
        repaired.append(f"{swept} temporary files that DVC left: removed")
    return repaired


def _sweep(root: Path) -> int:
    """Remove DVC's temporary files from its cache and from the output folders; return how many there were.

    A cache elsewhere may be large, and others may use it: it is swept with `--cache` only.
    """
    folders = (root / _CACHE, *(root / name for name in _OUTPUT_FOLDERS))
    count = sum(_remove_temporary(folder, 0.0) for folder in folders)
    _remove_empty_runs(root / _CACHE, 0.0)
    return count


def _remove_temporary(folder: Path, min_age: float) -> int:
    """Remove DVC's temporary files of at least `min_age` seconds below `folder`; return how many there were."""
    found = [path for path in folder.rglob("*.tmp") if _DVC_TEMPORARY.search(path.name) and _age(path) >= min_age]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _remove_empty_runs(cache: Path, min_age: float) -> None:
    """Remove empty folders of stages in the run cache, on which DVC fails."""
    for folder in (cache / "runs").glob("*/*"):
        # rmdir fails for folders that are not empty.
        with suppress(OSError):
            if _age(folder) >= min_age:
                folder.rmdir()


def _age(path: Path) -> float:
    """Seconds since the last change of a file or a folder. At least 0, whatever the clock of its machine."""
    return max(0.0, time.time() - path.lstat().st_mtime)


def _repair_lock_file(root: Path) -> bool:
    """Restore entries that dvc.lock has lost; return whether it was truncated. Keep a copy of an intact one."""
    lock, copy = root / LOCK, root / BACKUP
    if not lock.exists():
        copy.unlink(missing_ok=True)
        return False
    now, kept = (path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (lock, copy))
    # An empty dvc.lock without a copy is a first one that DVC began and did not finish.
    if now and now == kept:
        return False
    # An unfinished merge is left for the user to resolve.
    if "\n<<<<<<< " in now:
        return False
    # A readable file may still be truncated, at the end of a line. The committed file may be shorter, but is intact.
    if _is_readable(lock) and not (is_beginning(now, kept) and now != _committed(root)):
        write_text(copy, now)
        return False
    if entries(whole := restored(now, kept)):
        write_text(lock, whole)
    else:
        lock.unlink()
    return True


def _is_readable(lock: Path) -> bool:
    """Whether DVC can read its lock file and the last line is complete."""
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(str(lock)))
        return lock.read_bytes().endswith(b"\n")
    except (DvcException, Invalid):
        return False


def _committed(root: Path) -> str:
    """The committed dvc.lock; empty if there is none."""
    (committed,) = git.read_files(root, [f"HEAD:./{LOCK}"])
    return (committed or b"").decode(errors="replace")


def cache_folder(root: Path) -> Path:
    """DVC's cache, where its configuration says. Raises InputError if that cannot be read."""
    try:
        configured = Config(dvc_dir=str((root / ".dvc").resolve()))["cache"].get("dir")
    except DvcException as error:
        raise InputError(f"DVC's configuration: {first_line(error)}; `dvc config --list` shows it") from None
    return Path(configured) if configured else root / _CACHE


def remove_damaged(root: Path) -> list[str]:
    """Remove damaged files from DVC's cache; return one line per file. DVC names each file by its MD5.

    A cache that lies elsewhere is also swept.
    """
    cache, lines = cache_folder(root), []
    if cache != root / _CACHE:
        if not cache.is_dir():
            return [f"{cache}: DVC's cache, does not exist; nothing was checked"]
        if swept := _remove_temporary(cache, _UNFINISHED_SECONDS):
            lines.append(f"{cache}: {swept} temporary files that DVC left: removed")
        _remove_empty_runs(cache, _UNFINISHED_SECONDS)
    for path in sorted((cache / "files/md5").glob("??/*")):
        name = path.parent.name + path.name
        if _OBJECT.fullmatch(name) and not name.startswith(_md5(path)):
            path.unlink()
            shown = path.relative_to(root) if path.is_relative_to(root) else path
            lines.append(f"{shown}: was damaged, removed; `dvc repro` makes it again if needed")
    return lines


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


class Busy(InputError):
    """Another run holds the lock."""


def _without_dead(list_file: Path) -> str | None:
    """DVC's list of files in use without the entries of dead processes; None if it has none.

    DVC itself treats a zombie, or another process that reuses the PID, as alive.
    """
    try:
        old = json.loads(list_file.read_bytes())
        listed = {mode: old.get(mode, {}) for mode in ("read", "write")}
        new = {
            "read": {
                path: kept
                for path, users in listed["read"].items()
                if (kept := [user for user in users if _is_live_dvc(user["pid"])])
            },
            "write": {path: user for path, user in listed["write"].items() if _is_live_dvc(user["pid"])},
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return "{}"
    return None if new == listed else json.dumps(new)


def _is_live_dvc(pid: int) -> bool:
    """Whether a process is a running DVC."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "dvc" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _read(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace")


def main(argv: Sequence[str] | None = None) -> None:
    """Check the folder of archives, repair what a killed DVC left, and print each repair.

    Nothing is repaired while DVC is running, or if it never ran here.
    """
    allow_any_text()
    parser = argparse.ArgumentParser(prog="python -m flows.recovery", description=main.__doc__)
    parser.add_argument("--cache", action="store_true", help="also remove damaged files from DVC's cache")
    arguments = parser.parse_args(argv)
    try:
        for line in check_downloads(Path()):
            print(line, file=sys.stderr)
        if not _DVC_TMP.exists():
            return
        with make_lock(str(_DVC_TMP / "lock")):
            for line in [*repair(Path()), *(remove_damaged(Path()) if arguments.cache else [])]:
                print(line, file=sys.stderr)
    except LockError:
        return
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or _DVC_TMP}: {error.strerror}; DVC could not write here either")


if __name__ == "__main__":
    main()
