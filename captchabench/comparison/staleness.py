"""Whether results are those of the program and the parameters beside them, from the hashes in dvc.lock."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from captchabench.cells.cell import stage_of
from captchabench.config import MatrixParams
from captchabench.datasets import stage_name

# Files that DVC makes or downloads; the others are the program.
_DATA = ("data/", "metrics/", "reports/")
_NOTHING = object()


def behind(
    lock: Mapping[str, Any],
    params: Mapping[str, Any],
    matrix: MatrixParams,
    cells: Iterable[str],
    files: Callable[[Sequence[str]], Mapping[str, bytes]],
) -> tuple[str, ...]:
    """What differs from when the predictions were made and scored: files and parameters, sorted.

    lock: dvc.lock. params: params.yaml. cells: the names of the cells that were scored. files: returns the contents of
    the files at or below each of some paths, by path. Stages that dvc.lock does not list are not checked.
    """
    stages = lock.get("stages") or {}
    names = [stage_name(stage, dataset) for stage in ("ingest", "normalize") for dataset in matrix.all_datasets]
    names += [stage_of(stage, cell) for cell in cells for stage in ("train", "predict")]
    run = [stages[name] for name in [*names, "score"] if name in stages]
    hashes = {dep["path"]: dep.get("md5") for stage in run for dep in stage.get("deps") or () if _is_program(dep)}
    present = files(sorted(hashes))
    changed = {path for path, known in hashes.items() if known != _hash(path, known, present)}
    for stage in run:
        used = (stage.get("params") or {}).get("params.yaml") or {}
        changed |= {f"params.yaml: {name}" for name, value in used.items() if _at(params, name) != value}
    return tuple(sorted(changed))


def _is_program(dependency: Mapping[str, Any]) -> bool:
    return "md5" in dependency and not dependency["path"].startswith(_DATA)


def _hash(path: str, known: str, files: Mapping[str, bytes]) -> str | None:
    """The hash of a file or, if `known` is one of a folder, of a folder, as DVC computes it; None if it is gone."""
    if not known.endswith(".dir"):
        return _md5(files[path]) if path in files else None
    inside = {name: text for name, text in files.items() if name.startswith(f"{path}/")}
    entries = [
        {"md5": _md5(text), "relpath": str(PurePosixPath(name).relative_to(path))} for name, text in inside.items()
    ]
    entries.sort(key=lambda entry: entry["relpath"].split("/"))
    return f"{_md5(json.dumps(entries, sort_keys=True).encode())}.dir"


def _md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _at(params: Mapping[str, Any], name: str) -> Any:
    """The value of a parameter by its dotted name."""
    value: Any = params
    for key in name.split("."):
        value = value.get(key, _NOTHING) if isinstance(value, Mapping) else _NOTHING
    return value
