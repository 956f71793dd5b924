"""dvc.lock, which DVC writes in place: a whole copy of it, and what is left of one that was cut short.

Imports nothing of DVC's, so that a stage can set a copy aside in a moment.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from captchabench.storage.files import write_text

LOCK = Path("dvc.lock")
# DVC ignores this folder in Git, and every repository has one.
KEPT = Path(".dvc/tmp/kept.dvc.lock")

_ENTRY = re.compile(r"^  (?=[^ \n])", re.MULTILINE)


def keep_lock_file(root: Path) -> None:
    """Set a copy of dvc.lock aside, unless DVC is writing it just now or it knows less than the copy does.

    A stage's start is the moment: DVC has written all before it. A disk without room for the copy is no failure.
    """
    # A character cut in two is half of a file, too.
    with suppress(OSError, UnicodeDecodeError):
        now, kept = _read(root / LOCK), _read(root / KEPT)
        if now != kept and now.endswith("\n") and entries(now).keys() >= entries(kept).keys():
            write_text(root / KEPT, now)


def put_entry(root: Path, stage: str, entry: str) -> None:
    """Put a stage's entry into dvc.lock: in place of its old one, or last. The file is replaced whole.

    entry: as DVC writes a file of that stage alone.
    """
    now = _read(root / LOCK) or "schema: '2.0'\nstages:\n"
    head = now.partition("\nstages:\n")[0]
    ((_, text),) = entries(entry).items()
    write_text(root / LOCK, _joined(head, {**entries(now), stage: text}))


def entries(text: str) -> dict[str, str]:
    """The text of each stage's entry in a lock file, by stage, in order; the last may be cut short."""
    _, found, stages = text.partition("\nstages:\n")
    parts = _ENTRY.split(stages)[1:] if found else []
    return {part.partition(":\n")[0]: part for part in parts}


def is_beginning(text: str, whole: str) -> bool:
    """Whether a lock file has the first stages of another, and no more."""
    some, all_of_them = list(entries(text)), list(entries(whole))
    return len(some) < len(all_of_them) and some == all_of_them[: len(some)]


def restored(cut: str, kept: str) -> str:
    """The kept lock file, with what the cut one knows better: each of its entries but the last, which may be half."""
    better = entries(cut)
    if better:
        better.popitem()
    head = kept.partition("\nstages:\n")[0]
    return _joined(head, {**entries(kept), **better})


def _joined(head: str, parts: Mapping[str, str]) -> str:
    """A lock file of a head and entries."""
    return f"{head}\nstages:\n" + "".join(f"  {part}" for part in parts.values())


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
