"""All metrics of the leaderboard over time, as tidy data: one row per commit, dataset, model and metric."""

import io
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from captchabench.comparison.sides import Key
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
        "n": pl.Int64(),
        "images": pl.String(),
        "segment": pl.Int64(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
    }
)
_ROW_KEY = ["dataset", "source", "version", "model"]
_TYPES = {name: SCHEMA[name] for name in _ROW_KEY}


class Board(NamedTuple):
    """The results of one commit. table: the content of leaderboard.csv.

    images: (dataset, model) -> a digest of its held-out images and labels; empty for commits without cells.
    """

    commit: str
    date: str
    subject: str
    table: bytes
    images: Mapping[Key, str]


class _Measured(NamedTuple):
    """What a value was measured on."""

    source: str
    version: int
    n: int | None
    images: str

    def is_like(self, other: "_Measured") -> bool:
        """Whether values are comparable, as far as is known: some commits have no digest or no n."""
        same_images = self.images == other.images or not (self.images and other.images)
        same_n = self.n == other.n or None in (self.n, other.n)
        return self[:2] == other[:2] and same_images and same_n


def history(boards: Iterable[Board]) -> pl.DataFrame:
    """All metrics of all boards; columns of SCHEMA, in the order of the boards.

    n: images. images: the digest of Board.images, empty if unknown. segment: counts, for each dataset and model, how
    often the source, the version or the images changed before this commit: only values of one segment are comparable.
    low and high are the 95 % interval, null for a metric without one. A missing column, as in boards of other versions
    of this program, and an empty field give no row. A file that is not a leaderboard is skipped.
    """
    tables = [pl.DataFrame(schema=SCHEMA)]
    segments: dict[Key, tuple[int, _Measured]] = {}
    for commit, date, subject, text, images in boards:
        try:
            board = pl.read_csv(io.BytesIO(text), schema_overrides=_TYPES, infer_schema_length=None)
        except pl.exceptions.PolarsError:
            continue
        if not set(_ROW_KEY) <= set(board.columns):
            continue
        if "n" not in board.columns:
            board = board.with_columns(n=pl.lit(None, pl.Int64()))
        numbers = []
        for row in board.iter_rows(named=True):
            key = row["dataset"], row["model"]
            measured = _Measured(row["source"], row["version"], row["n"], images.get(key, ""))
            number, before = segments.get(key, (0, measured))
            segments[key] = number + (not measured.is_like(before)), measured
            numbers.append((*key, images.get(key, ""), segments[key][0]))
        types = {name: SCHEMA[name] for name in ("dataset", "model", "images", "segment")}
        of_rows = pl.DataFrame(numbers, types, orient="row")
        metrics = [_metric(board, name) for name in ("n", *METRICS.names()) if name in board.columns]
        identity = {"commit": pl.lit(commit), "date": pl.lit(date), "subject": pl.lit(subject)}
        counted = of_rows.join(board.select("dataset", "model", pl.col("n").cast(pl.Int64())), on=["dataset", "model"])
        tidy = pl.concat(metrics).join(counted, on=["dataset", "model"], maintain_order="left")
        tidy = tidy.with_columns(**identity).select(SCHEMA.names())
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
