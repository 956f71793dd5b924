"""The folder of archives, checked before DVC reads it: DVC fails there without naming the file or the remedy."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captchabench import git
from captchabench.config import PARAMS, read_yaml
from captchabench.errors import InputError

_KEY = "params.yaml: data.downloads"


def check_downloads(root: Path) -> list[str]:
    """Check `data.downloads` of the repository at `root`; restore the folder if it was removed and Git has it.

    Returns one line for that, and one for each dataset whose archive may be there under another name. Raises InputError
    if DVC cannot read the folder.
    """
    params = read_yaml(root / PARAMS) if (root / PARAMS).exists() else {}
    downloads = _at(params, "data", "downloads")
    if not isinstance(downloads, str):
        return []
    lines = []
    folder = root / downloads
    if not folder.is_dir():
        full = os.path.expanduser(os.path.expandvars(downloads))  # noqa: PTH111  # pathlib fails on an unknown user
        if full != downloads:
            raise InputError(f"{_KEY}: {downloads}: DVC does not expand this; write {full}")
        if not _restore(root, downloads):
            raise InputError(f"{_KEY}: {downloads} is not a folder; create it, or name another")
        lines.append(f"{downloads} was removed, and DVC needs it: restored from Git")
    if (odd := next(_not_utf8(folder), None)) is not None:
        raise InputError(
            f"{_KEY}: {odd}: this name is not UTF-8, and DVC fails on it; rename it, or put the archive there without "
            "unpacking it"
        )
    return [*lines, *_misnamed(params, folder)]


def _at(params: Any, *keys: str) -> Any:
    """A nested value of params.yaml, which is not checked here; None if there is none."""
    for key in keys:
        params = params.get(key) if isinstance(params, dict) else None
    return params


def _restore(root: Path, folder: str) -> bool:
    """Restore a folder that Git tracks; return whether it exists now."""
    git.run(root, "checkout", "--quiet", "--", folder)
    return (root / folder).is_dir()


def _not_utf8(folder: Path) -> Iterator[str]:
    """The paths of files and folders below `folder` whose own names are not UTF-8."""
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in sorted(folders + files):
            try:
                name.decode("utf-8")
            except UnicodeDecodeError:
                yield os.fsdecode(os.path.join(parent, name))  # noqa: PTH118  # pathlib takes no bytes


def _misnamed(params: Any, folder: Path) -> list[str]:
    """One line for each dataset that has no archive where other archives lie."""
    wanted = [(_at(params, "data", "source"), ("datasets",)), (_at(params, "tiles", "source"), ("tiles", "datasets"))]
    keys = [key for source, at in wanted if source == "archive" for key in _at(params, "matrix", *at) or ()]
    if not keys:
        return []
    # Imported here, since stand-ins need none of it.
    from captchabench.datasets import DATASETS
    from captchabench.sources.archives import SUFFIXES, archives_in, other_names

    # Names that are not known are reported with the other parameters.
    slugs = {key: DATASETS[key].slug for key in DATASETS.names() if key in keys}
    known = {f"{DATASETS[key].slug}{suffix}" for key in DATASETS.names() for suffix in SUFFIXES}
    declared = _at(params, "datasets") or {}
    known |= {Path(path).name for key in declared if isinstance(path := _at(declared, key, "path"), str)}
    others = [name for name in archives_in(folder) if name not in known]
    missing = {
        key: slug
        for key, slug in slugs.items()
        if not any((folder / f"{slug}{suffix}").exists() for suffix in ("", *SUFFIXES))
    }
    lines = []
    for key, slug in missing.items():
        rest = [other for other in slugs.values() if other != slug]
        possible = [name for name in others if not name.lower().startswith(tuple(map(str.lower, rest)))]
        if names := other_names(possible, slug):
            lines.append(
                f"{key}: {folder} holds no {slug}.zip, but {names}; if this is the archive of {key}, "
                f"rename it to {slug}.zip"
            )
    return lines
