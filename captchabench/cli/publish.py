"""The command `captchabench publish`. What takes long to import is imported inside it."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from captchabench import git
from captchabench.config import PARAMS, load_params, read_yaml
from captchabench.errors import InputError
from captchabench.storage.files import as_json, write_text

_METRICS = Path("metrics")
# What a run itself changes, and may differ from the commit.
_MADE = ("params.yaml", "dvc.lock", "metrics", "results", "data")
_FACTS = {
    "versions": ("captchabench", "python", "torch", "timm", "numpy", "OpenCV"),
    "machine": ("system", "processor", "cores", "memory"),
}


def publish(
    name: Annotated[str, typer.Argument(help="The run: the name of its parameters in results/, without .yaml.")],
) -> None:
    """Keep the finished run in results/: its table, its parameters, the machine and the time of each cell.

    The run must be up to date, have the parameters of results/NAME.yaml, and be of a program that is committed.
    """
    from captchabench.cli.overlay import merge
    from captchabench.doctor.machine import sections
    from captchabench.report.runs import RESULTS
    from captchabench.scoring.leaderboard import TIMINGS, read_cells, read_timing

    overlay = RESULTS / f"{name}.yaml"
    images = _heading(overlay)
    differing = next(merge(read_yaml(PARAMS), read_yaml(overlay)), None)
    if differing:
        raise InputError(f"{PARAMS}: {differing[0]} is not as in {overlay}; run `make result RUN={name}`")
    _check_up_to_date(name)
    params = load_params()
    scored = read_cells(_METRICS / "cells", params.matrix)
    timings = {one.cell: read_timing(Path("data/timings"), one.cell) for one in scored}
    facts, _ = sections()
    record = {
        "images": images,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _committed(),
        "machine": {fact: facts[section][fact] for section, names in _FACTS.items() for fact in names},
        "sources": {dataset: _source(dataset) for dataset in params.matrix.all_datasets},
        "cells": [
            {
                **one.cell._asdict(),
                "images": one.parts[one.dataset].counts.n,
                "exact": one.parts[one.dataset].counts.exact,
                "samples": one.parts[one.dataset].samples,
                "train_seconds": timings[one.cell].train_seconds,
                "predict_seconds": timings[one.cell].predict_seconds,
                "device": timings[one.cell].device,
                "threads": timings[one.cell].threads,
            }
            for one in scored
        ],
        "parameters": read_yaml(PARAMS),
    }
    write_text(RESULTS / f"{name}.csv", _without(TIMINGS, (_METRICS / "leaderboard.csv").read_text(encoding="utf-8")))
    write_text(RESULTS / f"{name}.json", as_json(record))
    typer.echo(f"{RESULTS / name}.csv and .json: {len(scored)} cells; commit both")


def _heading(overlay: Path) -> str:
    """The comment that `overlay` starts with: it says what the images are."""
    try:
        lines = overlay.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        known = ", ".join(sorted(path.stem for path in overlay.parent.glob("*.yaml"))) or "none yet"
        raise InputError(f"{overlay}: cannot be read ({error.strerror}); runs that have one: {known}") from None
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    if not comment:
        raise InputError(f"{overlay}: must start with a comment that says what the images are")
    return " ".join(comment)


def _check_up_to_date(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True, check=False
    )
    try:
        stale = json.loads(done.stdout)
    except ValueError:
        raise InputError(f"dvc status failed: {done.stderr.strip() or done.stdout.strip()}") from None
    # The page shows what results/ holds, which the last run to be published has changed.
    stale.pop("report", None)
    if stale:
        shown = ", ".join(sorted(stale)[:3])
        raise InputError(f"{len(stale)} stages are not up to date ({shown}); run `make result RUN={name}`")


def _committed() -> str:
    """The hash of HEAD. Raises InputError where files of the program differ from it."""
    root = Path()
    changed = [path for path in git.changed(root) if not any(Path(path).is_relative_to(made) for made in _MADE)]
    if changed:
        raise InputError(f"{changed[0]}: differs from the commit; commit it first")
    return git.head(root)


def _source(dataset: str) -> dict[str, Any]:
    cleaned = json.loads((_METRICS / "data" / f"{dataset}.json").read_text(encoding="utf-8"))
    return {key: cleaned[key] for key in ("source", "images_available", "images_read", "kept", "rejected")}


def _without(columns: Sequence[str], leaderboard: str) -> str:
    """The CSV table without these columns; its other bytes are unchanged."""
    rows = list(csv.reader(io.StringIO(leaderboard)))
    kept = [column for column, name in enumerate(rows[0]) if name not in columns]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row[column] for column in kept] for row in rows)
    return text.getvalue()
