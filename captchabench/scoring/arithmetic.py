"""The arithmetic of every cell: what can change its numbers without a change of the program."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.scoring.cells import ScoredCell
from captchabench.storage.tables import Table

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "model": pl.String(),
        "fold": pl.Int64(),
        "precision": pl.String(),
        "device": pl.String(),
        "threads": pl.String(),
        "processor": pl.String(),
        "instructions": pl.String(),
        "libraries": pl.String(),
    }
)
ARITHMETIC = Table("metrics/arithmetic.csv", SCHEMA, "leaderboard")
# What the files of timings hold.
_OF_MACHINES = ("device", "threads", "processor", "instructions", "libraries")


def arithmetic(cells: Sequence[ScoredCell], folder: Path) -> pl.DataFrame:
    """One row per cell, sorted; columns of SCHEMA. folder: of the timings, which `train` and `predict` wrote.

    Where the two stages ran on different machines, a value has both, between slashes. A value is null where the
    program that wrote the timings did not record it. Raises InputError if a file is missing or damaged.
    """
    rows = []
    for scored in sorted(cells, key=lambda scored: scored.cell):
        machines = [_machine(folder, scored.cell, stage) for stage in ("train", "predict")]
        values = {name: _both([machine.get(name) for machine in machines]) for name in _OF_MACHINES}
        rows.append({**scored.cell._asdict(), "precision": scored.precision or None, **values})
    return pl.DataFrame(rows, SCHEMA)


def _machine(folder: Path, cell: Cell, stage: str) -> dict[str, Any]:
    path = folder / f"{cell}.{stage}.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); run {cell.command(stage)}") from None


def _both(values: Sequence[object]) -> str | None:
    return " / ".join(dict.fromkeys(str(value) for value in values if value not in (None, ""))) or None
