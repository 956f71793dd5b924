"""All metrics of the leaderboard over time, as tidy data: one row per commit, dataset, model and metric."""

import io
from collections.abc import Iterable

import polars as pl

from captchabench.scoring.metrics import METRICS

SCHEMA = pl.Schema(
    {
        "commit": pl.String(),
        "date": pl.String(),
        "subject": pl.String(),
        "dataset": pl.String(),
        "source": pl.String(),
        "version": pl.Int64(),
        "model": pl.String(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
_ROW_KEY = ["dataset", "source", "version", "model"]
_TYPES = {name: SCHEMA[name] for name in _ROW_KEY}


def history(boards: Iterable[tuple[str, str, str, bytes]]) -> pl.DataFrame:
    """All metrics of all boards; columns of SCHEMA, in the order of the boards.

    boards: (commit, date, subject, content of leaderboard.csv) of each commit. low and high are the 95 % interval, null
    for a metric without one. A missing column, as in boards of other versions of this program, and an empty field give
    no row. A file that is not a leaderboard is skipped.
    """
    tables = [pl.DataFrame(schema=SCHEMA)]
    for commit, date, subject, text in boards:
        try:
            board = pl.read_csv(io.BytesIO(text), schema_overrides=_TYPES, infer_schema_length=None)
        except pl.exceptions.PolarsError:
            continue
        if not set(_ROW_KEY) <= set(board.columns):
            continue
        metrics = [_metric(board, name) for name in ("n", *METRICS.names()) if name in board.columns]
        identity = {"commit": pl.lit(commit), "date": pl.lit(date), "subject": pl.lit(subject)}
        tidy = pl.concat(metrics).with_columns(**identity).select(SCHEMA.names())
        tables.append(tidy.drop_nulls("value").sort("dataset", "model", "metric"))
    return pl.concat(tables)


def _metric(board: pl.DataFrame, name: str) -> pl.DataFrame:
    """One metric of a board, with its interval."""
    columns = {"value": name, "low": f"{name}_lo", "high": f"{name}_hi"}
    values = {
        title: (pl.col(column) if column in board.columns else pl.lit(None)).cast(pl.Float64)
        for title, column in columns.items()
    }
    return board.select(*_ROW_KEY, metric=pl.lit(name), **values)
