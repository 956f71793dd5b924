"""What the page shows besides the leaderboard: curves, confusions, and how the data was cleaned."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from captchabench.errors import InputError
from captchabench.evaluation.curves import SCHEMA
from captchabench.evaluation.leaderboard import CONFUSION_SCHEMA


@dataclass(frozen=True)
class Cleaning:
    """One dataset on its way to shards: images read, images kept, and images rejected by reason."""

    dataset: str
    source: str
    images_read: int
    kept: int
    rejected: dict[str, int]


def read_curves(path: Path) -> pl.DataFrame:
    """All learning curves, columns as in `evaluation.curves`. Raises InputError if unreadable."""
    try:
        return pl.read_csv(path, schema=SCHEMA)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error, "dvc repro leaderboard") from None


def read_confusions(path: Path) -> pl.DataFrame:
    """The confusion table, columns as in `evaluation.leaderboard`. Raises InputError if unreadable."""
    try:
        # Symbols may be digits or a quote mark: all but the count stay text.
        return pl.read_csv(path, schema=CONFUSION_SCHEMA)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error, "dvc repro leaderboard") from None


def read_cleaning(folder: Path, datasets: Sequence[str]) -> list[Cleaning]:
    """How each of `datasets` was cleaned. Raises InputError if a file is missing or damaged."""
    found = []
    for dataset in datasets:
        path = folder / f"{dataset}.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            counts = {key: int(values[key]) for key in ("images_read", "kept")}
            found.append(Cleaning(dataset, values["source"], **counts, rejected=dict(values["rejected"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(path, error, f"dvc repro normalize@{dataset}") from None
    return found


def _unreadable(path: Path, error: Exception, command: str) -> InputError:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
    return InputError(f"{path}: cannot be read ({reason}); run `{command}`")
