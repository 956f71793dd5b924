"""Backups of dvc.lock, and its recovery if it is truncated: DVC writes the file in place, not atomically.

This module does not import DVC, so that a stage can save a backup quickly.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from captchabench.storage.files import write_text

LOCK = Path("dvc.lock")
# The backup. Every DVC repository has this folder, and Git ignores it.
BACKUP = Path(".dvc/tmp/kept.dvc.lock")

_ENTRY = re.compile(r"^  (?=[^ \n])", re.MULTILINE)


def keep_lock_file(root: Path) -> None:
    """Save a backup of dvc.lock, unless the file is incomplete or has fewer stages than the backup.

    Call this at the start of a stage: by then DVC has written the entries of all earlier stages. A backup that cannot
    be written is not an error.
    """
    # A truncated file may end in the middle of a UTF-8 character.
    with suppress(OSError, UnicodeDecodeError):
        current, backup = _read(root / LOCK), _read(root / BACKUP)
        if current != backup and current.endswith("\n") and entries(current).keys() >= entries(backup).keys():
            write_text(root / BACKUP, current)


def put_entry(root: Path, stage: str, entry: str) -> None:
    """Replace the entry of a stage in dvc.lock, or append it. The file is replaced atomically.

    entry: the text of a lock file with only this stage, as DVC writes it.
    """
    current = _read(root / LOCK) or "schema: '2.0'\nstages:\n"
    head = current.partition("\nstages:\n")[0]
    ((_, text),) = entries(entry).items()
    write_text(root / LOCK, _joined(head, {**entries(current), stage: text}))


def entries(text: str) -> dict[str, str]:
    """Stage -> the text of its entry in a lock file, in order. The last may be truncated."""
    _, separator, stages = text.partition("\nstages:\n")
    parts = _ENTRY.split(stages)[1:] if separator else []
    return {part.partition(":\n")[0]: part for part in parts}


def is_beginning(text: str, whole: str) -> bool:
    """Whether the stages of a lock file are a proper prefix of those of `whole`."""
    stages, all_stages = list(entries(text)), list(entries(whole))
    return len(stages) < len(all_stages) and stages == all_stages[: len(stages)]


def restored(truncated: str, backup: str) -> str:
    """The backup with the entries of the truncated file, except its last entry, which may be incomplete."""
    newer = entries(truncated)
    if newer:
        newer.popitem()
    head = backup.partition("\nstages:\n")[0]
    return _joined(head, {**entries(backup), **newer})


def _joined(head: str, parts: Mapping[str, str]) -> str:
    """The text of a lock file from its head and its entries."""
    return f"{head}\nstages:\n" + "".join(f"  {part}" for part in parts.values())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
