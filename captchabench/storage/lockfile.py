"""Backups of dvc.lock, and the recovery of a truncated one: DVC writes the file in place, not atomically.

This module does not import DVC, so that a stage can save a backup quickly.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from captchabench.storage.files import write_text

LOCK = Path("dvc.lock")
# Every DVC repository has this folder, and Git ignores it.
KEPT = Path(".dvc/tmp/kept.dvc.lock")

_ENTRY = re.compile(r"^  (?=[^ \n])", re.MULTILINE)


def keep_lock_file(root: Path) -> None:
    """Save a backup of dvc.lock, unless the file is incomplete or has fewer stages than the backup.

    Call this at the start of a stage: by then DVC has written the entries of all earlier stages. A backup that cannot
    be written is not an error.
    """
    # A truncated file may end in the middle of a UTF-8 character.
    with suppress(OSError, UnicodeDecodeError):
        current, kept = _read(root / LOCK), _read(root / KEPT)
        if current != kept and current.endswith("\n") and entries(current).keys() >= entries(kept).keys():
            write_text(root / KEPT, current)


def put_entry(root: Path, stage: str, entry: str) -> None:
    """Put a stage's entry into dvc.lock, in place of the old one or at the end. The file is replaced atomically.

    entry: a lock file with that stage alone, as DVC writes it.
    """
    current = _read(root / LOCK) or "schema: '2.0'\nstages:\n"
    head = current.partition("\nstages:\n")[0]
    ((_, text),) = entries(entry).items()
    write_text(root / LOCK, _joined(head, {**entries(current), stage: text}))


def entries(text: str) -> dict[str, str]:
    """The text of each stage's entry in a lock file, by stage, in order. The last may be truncated."""
    _, separator, stages = text.partition("\nstages:\n")
    parts = _ENTRY.split(stages)[1:] if separator else []
    return {part.partition(":\n")[0]: part for part in parts}


def is_beginning(text: str, whole: str) -> bool:
    """Whether the stages of a lock file are a proper prefix of those of `whole`."""
    stages, all_stages = list(entries(text)), list(entries(whole))
    return len(stages) < len(all_stages) and stages == all_stages[: len(stages)]


def restored(cut: str, kept: str) -> str:
    """The backup with the newer entries of the truncated file, except its last one, which may be incomplete."""
    newer = entries(cut)
    if newer:
        newer.popitem()
    head = kept.partition("\nstages:\n")[0]
    return _joined(head, {**entries(kept), **newer})


def _joined(head: str, parts: Mapping[str, str]) -> str:
    """The text of a lock file from its head and its entries."""
    return f"{head}\nstages:\n" + "".join(f"  {part}" for part in parts.values())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
