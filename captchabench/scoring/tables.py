"""Reading the CSV tables that stages write."""

from pathlib import Path

import polars as pl

from captchabench.errors import InputError


def read_table(path: Path, schema: pl.Schema, stage: str) -> pl.DataFrame:
    """The table that `stage` wrote, with exactly the columns of `schema`.

    Raises InputError if it is missing, damaged or another.
    """
    try:
        table = pl.read_csv(path, schema_overrides=schema)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error, f"`dvc repro {stage}`") from None
    if table.columns != schema.names():
        raise InputError(f"{path}: has other columns than this program's; run `dvc repro {stage}`")
    return table


def unreadable(path: Path, error: Exception, command: str) -> InputError:
    """The error of a file that cannot be read, in one line: why, and the command that makes it anew."""
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
    return InputError(f"{path}: cannot be read ({reason}); run {command}")
