"""Reading the CSV tables that stages write."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from captchabench.errors import InputError


@dataclass(frozen=True, eq=False)
class Table:
    """A table of the benchmark. path: relative to the root. stage: the DVC stage that writes it."""

    path: str
    schema: pl.Schema
    stage: str

    def read(self) -> pl.DataFrame:
        """Read the table. Raises InputError if it is missing or damaged, or if its columns differ."""
        return read_table(Path(self.path), self.schema, self.stage)


def read_table(path: Path, schema: pl.Schema, stage: str) -> pl.DataFrame:
    """The table that `stage` wrote, with exactly the columns of `schema`.

    Raises InputError if it is missing or damaged, or if its columns differ.
    """
    return read_columns(path, schema, f"run `dvc repro {stage}`")


def read_columns(path: Path, schema: pl.Schema, remedy: str, later: Collection[str] = ()) -> pl.DataFrame:
    """A CSV table with exactly the columns of `schema`.

    remedy: what to do if it is missing or damaged, or if its columns differ; InputError says it. later: columns that
    tables of earlier versions do not have; they are null there.
    """
    try:
        table = pl.read_csv(path, schema_overrides=schema)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}); {remedy}") from None
    lacking = [name for name in later if name not in table.columns]
    if table.columns != [name for name in schema if name not in lacking]:
        raise InputError(f"{path}: does not have the columns that this program expects; {remedy}")
    return table.with_columns(pl.lit(None, schema[name]).alias(name) for name in lacking).select(schema.names())


def unreadable(path: Path, error: Exception, command: str) -> InputError:
    """The InputError for a file that cannot be read: why, and the command that makes the file again."""
    return InputError(f"{path}: cannot be read ({_reason(error)}); run {command}")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0])
