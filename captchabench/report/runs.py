"""Full runs on real images, as results/ keeps them.

NAME.yaml: the parameters that were changed. NAME.csv: the leaderboard. NAME.json: commit, machine, time of each cell.
`captchabench publish` writes the last two. NAME.images.csv: exact match against training images, if it was measured
(`make images-needed`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from captchabench.errors import InputError
from captchabench.scoring.leaderboard import SCHEMA, TIMINGS
from captchabench.storage.tables import read_columns
from captchabench.studies import images_needed

RESULTS = Path("results")
_REMEDY = "restore it with Git"
# The leaderboard without what differs each time.
RUN_SCHEMA = pl.Schema({name: kind for name, kind in SCHEMA.items() if name not in TIMINGS})
# Columns that runs from before this version do not have.
_LATER = ("groups", "position_accuracy", "ceiling", "of_ceiling")
PUBLISHED_SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "system": pl.String(),
        "images": pl.Int64(),
        "exact": pl.Float64(),
        "folded": pl.Boolean(),
        "cer": pl.Float64(),
        "protocol": pl.String(),
    }
)


@dataclass(frozen=True, eq=False)
class Run:
    """One full run.

    images: what was read, in words. date: of publishing, ISO 8601, UTC. commit: the program's. machine: facts by name.
    sources: what metrics/data says of each dataset. cells: score and times of each. parameters: params.yaml as it was.
    board: the leaderboard, columns of RUN_SCHEMA. curve: exact match against training images, as measured with these
    parameters; columns of studies.images_needed.SCHEMA, empty if it was not.
    """

    name: str
    images: str
    date: str
    commit: str
    machine: Mapping[str, str]
    sources: Mapping[str, Mapping[str, Any]]
    cells: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    board: pl.DataFrame
    curve: pl.DataFrame

    def train_seconds(self, dataset: str, model: str) -> float:
        """The mean CPU or GPU seconds of one training of `model` on `dataset`."""
        seconds = [c["train_seconds"] for c in self.cells if (c["dataset"], c["model"]) == (dataset, model)]
        return float(sum(seconds) / len(seconds))


def read_runs(folder: Path = RESULTS) -> list[Run]:
    """All runs in `folder`, sorted by name. Raises InputError where one is damaged or lacks its table."""
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def read_published(folder: Path = RESULTS) -> pl.DataFrame:
    """Figures that others published, from published.csv: columns of PUBLISHED_SCHEMA; empty without that file.

    folded: whether `exact` ignores case. Raises InputError where the file is damaged.
    """
    path = folder / "published.csv"
    if not path.exists():
        return pl.DataFrame(schema=PUBLISHED_SCHEMA)
    return read_columns(path, PUBLISHED_SCHEMA, _REMEDY)


def _read(path: Path) -> Run:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        board = read_columns(path.with_suffix(".csv"), RUN_SCHEMA, _REMEDY, _LATER)
        curve = pl.DataFrame(schema=images_needed.SCHEMA)
        if (measured := images_needed.table_path(path)).exists():
            curve = images_needed.current(read_columns(measured, images_needed.SCHEMA, _REMEDY), record["parameters"])
        return Run(name=path.stem, board=board, curve=curve, **record)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: is not the record of a run ({error}); {_REMEDY}") from None
