"""The learning curves of all cells as one table."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from captchabench.scoring.cells import ScoredCell
from captchabench.storage.tables import Table, unreadable

_POINT = pl.Schema(
    {
        "step": pl.Int64(),
        "epoch": pl.Float64(),
        "learning_rate": pl.Float64(),
        "train_loss": pl.Float64(),
        "validation_loss": pl.Float64(),
        "validation_exact": pl.Float64(),
    }
)
SCHEMA = pl.Schema({"dataset": pl.String(), "source": pl.String(), "model": pl.String(), "fold": pl.Int64(), **_POINT})
CURVES = Table("metrics/curves.csv", SCHEMA, "leaderboard")


def collect_curves(folder: Path, cells: Sequence[ScoredCell]) -> pl.DataFrame:
    """The curves of `cells`, concatenated in that order; columns of SCHEMA.

    folder: where `train` wrote them. Raises InputError if one is missing or damaged.
    """
    curves = [pl.DataFrame(schema=SCHEMA)]
    for cell in cells:
        path = folder / f"{cell.cell}.csv"
        try:
            points = pl.read_csv(path, schema_overrides=_POINT).select(*_POINT)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise unreadable(path, error, cell.cell.command("train")) from None
        identity = [pl.lit(getattr(cell, key), SCHEMA[key]).alias(key) for key in SCHEMA if key not in _POINT]
        curves.append(points.select(*identity, *_POINT))
    return pl.concat(curves)
