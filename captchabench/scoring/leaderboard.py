"""The leaderboard and the tables of confusions and classes: the folds of all cells, checked and pooled."""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from captchabench.cells.cell import Cell, expected_cells
from captchabench.config import MatrixParams
from captchabench.datasets import UNION
from captchabench.errors import InputError
from captchabench.scoring.cells import ScoredCell, read_cell
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import Interval, edit_intervals, effective_size, wilson
from captchabench.scoring.metrics import SCORED
from captchabench.scoring.tiles import class_scores
from captchabench.storage.files import replacing_file
from captchabench.storage.tables import Table, read_table, unreadable

# The name in a confusion table of all characters beyond the limit; longer than a character, as the names of gaps are.
OTHER = "other"
CONFUSIONS_KEPT = 200

# Columns that follow a metric: the ends of its 95 % interval, and the standard deviation over folds.
_FOLLOWING = {
    "exact": ("exact_lo", "exact_hi", "exact_std"),
    "cer": ("cer_lo", "cer_hi"),
    "mean_edit_distance": ("mean_edit_distance_lo", "mean_edit_distance_hi"),
}
SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "version": pl.Int64(),
        "model": pl.String(),
        "n": pl.Int64(),
        "groups": pl.Int64(),
        "folds": pl.Int64(),
        **{column: pl.Float64() for metric in SCORED for column in (metric.name, *_FOLLOWING.get(metric.name, ()))},
        "ceiling": pl.Float64(),
        "of_ceiling": pl.Float64(),
        "parameters": pl.Int64(),
        "pretraining": pl.String(),
        "arithmetic": pl.String(),
        "train_seconds": pl.Float64(),
        "images_per_second": pl.Float64(),
        "device": pl.String(),
        "threads": pl.Int64(),
    }
)
# Columns that differ each time a run is repeated.
TIMINGS = ("train_seconds", "images_per_second", "device", "threads")
CLASSES_SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "model": pl.String(),
        "class": pl.String(),
        "tiles": pl.Int64(),
        "precision": pl.Float64(),
        "recall": pl.Float64(),
        "f1": pl.Float64(),
        "challenges": pl.Int64(),
        "solved": pl.Float64(),
    }
)
CONFUSION_SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "model": pl.String(),
        "actual": pl.String(),
        "predicted": pl.String(),
        "count": pl.Int64(),
    }
)
DECIMALS = 6
_TIMING_DECIMALS = 2
CLASSES = Table("metrics/classes.csv", CLASSES_SCHEMA, "leaderboard")
CONFUSIONS = Table("metrics/confusion.csv", CONFUSION_SCHEMA, "leaderboard")


@dataclass(frozen=True)
class Copies:
    """Near-duplicates within one fold of a dataset. groups: images, with near-duplicates counted once.

    squares: the sum of the squared sizes of the groups; equal to `groups` where no image has a near-duplicate.
    """

    groups: int
    squares: int


@dataclass(frozen=True)
class Timing:
    """The time that one cell took: to train, and to read `images`; device and threads."""

    train_seconds: float
    images: int
    predict_seconds: float
    device: str
    threads: int


def read_timing(folder: Path, cell: Cell) -> Timing:
    """One cell's timings from its train and predict files. Raises InputError if one is missing or damaged."""
    values: dict[str, Any] = {}
    for stage in ("train", "predict"):
        path = folder / f"{cell}.{stage}.json"
        try:
            values |= json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be read ({reason}); run {cell.command(stage)}") from None
    try:
        return Timing(**{key: values[key] for key in Timing.__dataclass_fields__})
    except KeyError as error:
        raise InputError(f"{folder}/{cell}.*.json: lacks {error}; run {cell.command('train')}") from None


def read_copies(path: Path) -> dict[tuple[str, int], Copies]:
    """(dataset, fold) -> its near-duplicates, as the audit in `path` counted them; grids are left out.

    Raises InputError if the file is missing or damaged.
    """
    try:
        datasets = json.loads(path.read_text(encoding="utf-8"))["datasets"]
        return {
            (dataset, int(fold)): Copies(**counted)
            for dataset, figures in datasets.items()
            for fold, counted in figures.get("groups", {}).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(path, error, "`dvc repro audit`") from None


def read_cells(folder: Path, matrix: MatrixParams) -> list[ScoredCell]:
    """All cells of the matrix, sorted. Raises InputError if one is missing, or if they disagree about the images."""
    cells = [read_cell(folder, cell) for cell in expected_cells(matrix)]
    _check_same_images(cells)
    return cells


def leaderboard(
    cells: Sequence[ScoredCell],
    timings: Mapping[Cell, Timing],
    coverage: Mapping[tuple[str, str], float],
    ceilings: Mapping[str, float] = MappingProxyType({}),
    copies: Mapping[tuple[str, int], Copies] = MappingProxyType({}),
) -> pl.DataFrame:
    """One row per (dataset, source, model), folds pooled, sorted by dataset and model; columns of SCHEMA.

    `union` has one row for all images and one for each member's, named `union/member`.

    coverage: (dataset, model) -> share of images read with 99 % precision, from the calibration stage. ceilings:
    dataset -> the exact match that no reader can exceed on average, where it is known. copies: (dataset, fold) -> its
    near-duplicates, where they were counted.

    Columns: groups is n with near-duplicates counted once; null where they were not counted, as for grids. exact_lo and
    exact_hi are the 95 % Wilson interval over all images. cer_lo to mean_edit_distance_hi are bootstrap intervals over
    images, null if all are read equally well. All these intervals allow for near-duplicates, see `effective_size`.
    of_ceiling is exact over ceiling, both null where none is known. exact_std is the standard deviation of `exact` over
    folds, each with a seed of its own; null with one fold. pretraining and arithmetic are those of
    models.base.Provenance, null where empty. train_seconds is the mean over folds, images_per_second all images over
    all seconds.

    Raises InputError if the folds of a row differ in source, version, pretraining or arithmetic, or if `coverage` lacks
    a row.
    """
    rows = []
    for (name, model), parts in _by_row(cells).items():
        of_row = [cell for cell, _ in parts]
        of_folds = [timings[scored.cell] for scored in of_row]
        pooled = reduce(add, (counts for _, counts in parts))
        shares = [counts.exact / counts.n for _, counts in parts]
        if (name, model) not in coverage:
            raise InputError(f"metrics/risk_coverage.csv: lacks {model} on {name}; run `dvc repro calibration`")
        same = _copies(name, of_row, copies)
        size = effective_size(pooled.n, same.squares) if same else None
        exact, edits = wilson(pooled.exact, pooled.n, size), edit_intervals(pooled.images, size)
        ceiling = ceilings.get(name.removeprefix(f"{UNION}/"))
        rows.append(
            {
                "dataset": name,
                "source": _one(of_row, "source"),
                "version": _one(of_row, "version"),
                "model": model,
                "n": pooled.n,
                "groups": same and same.groups,
                "folds": len(parts),
                **scores(pooled),
                **_ends("exact", exact),
                "exact_std": statistics.stdev(shares) if len(shares) > 1 else None,
                **_ends("cer", edits.cer),
                **_ends("mean_edit_distance", edits.mean_edit_distance),
                "coverage_99": coverage[name, model],
                "ceiling": ceiling,
                "of_ceiling": ceiling and pooled.exact / pooled.n / ceiling,
                # A fold whose training part lacks a rare character can have fewer.
                "parameters": max(cell.parameters for cell in of_row),
                "pretraining": _one(of_row, "pretraining") or None,
                "arithmetic": _one(of_row, "precision") or None,
                "train_seconds": statistics.fmean(t.train_seconds for t in of_folds),
                "images_per_second": sum(t.images for t in of_folds) / sum(t.predict_seconds for t in of_folds),
                "device": "/".join(sorted({t.device for t in of_folds})),
                "threads": max(t.threads for t in of_folds),
            }
        )
    return pl.DataFrame(rows, schema=SCHEMA).sort("dataset", "model")


def _copies(name: str, cells: Sequence[ScoredCell], copies: Mapping[tuple[str, int], Copies]) -> Copies | None:
    """The near-duplicates among the images of a row called `name`; None if they were not counted for all of it."""
    read = [(part, cell.fold) for cell in cells for part in _datasets(name, cell)]
    if not read or any(each not in copies for each in read):
        return None
    found = [copies[each] for each in read]
    return Copies(sum(each.groups for each in found), sum(each.squares for each in found))


def _datasets(name: str, cell: ScoredCell) -> list[str]:
    """The datasets whose images the row `name` has of this cell: one, or the members of `union`."""
    if name != UNION:
        return [name.removeprefix(f"{UNION}/")]
    return [part.removeprefix(f"{UNION}/") for part in cell.parts if part != UNION]


def scores(counts: Counts) -> dict[str, float | None]:
    """Name -> value of every metric that can be computed from counts, in table order."""
    return {metric.name: metric.compute(counts) for metric in SCORED if metric.compute}


def _ends(metric: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{metric}_lo": low, f"{metric}_hi": high}


def write_leaderboard(path: Path, board: pl.DataFrame) -> None:
    """Write the table as CSV with a fixed number of decimals per column, completely or not at all."""
    floats = [name for name, kind in SCHEMA.items() if kind == pl.Float64]
    timings = {"train_seconds", "images_per_second"}
    fixed = [pl.col(name).cast(pl.Decimal(38, _TIMING_DECIMALS if name in timings else DECIMALS)) for name in floats]
    with replacing_file(path) as temporary:
        board.with_columns(fixed).write_csv(temporary)


def read_leaderboard(path: Path) -> pl.DataFrame:
    """The table that `write_leaderboard` wrote. Raises InputError if it is missing or another table."""
    return read_table(path, SCHEMA, "leaderboard")


def summary(board: pl.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Model -> dataset -> metric, for `dvc metrics diff`.

    Timings are left out, since they differ from run to run. So are metrics that a model does not have.
    """
    nested: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for row in board.iter_rows(named=True):
        values = {name: row[name] for name in ("n", *(metric.name for metric in SCORED))}
        kept = {name: round(value, DECIMALS) for name, value in values.items() if value is not None}
        nested[row["model"]][row["dataset"]] = kept
    return dict(nested)


def confusions(cells: Sequence[ScoredCell]) -> pl.DataFrame:
    """How often each character was read as each other one, in long form, sorted; columns of CONFUSION_SCHEMA.

    For each dataset and model there is a row for every correctly read character and for the CONFUSIONS_KEPT most
    frequent mistakes. The other mistakes are summed by actual character, with `predicted` = "other". Insertions have
    `actual` = "inserted", deletions `predicted` = "deleted". Members of `union` have no rows of their own.
    """
    rows = []
    for (name, model), parts in _by_row(cells).items():
        if "/" in name:
            continue
        pooled = reduce(add, (counts for _, counts in parts)).confusion
        wrong = sorted((-n, pair) for pair, n in pooled.items() if pair[0] != pair[1])
        kept = {pair: n for pair, n in pooled.items() if pair[0] == pair[1]}
        kept |= {pair: -n for n, pair in wrong[:CONFUSIONS_KEPT]}
        for n, (actual, _) in wrong[CONFUSIONS_KEPT:]:
            kept[actual, OTHER] = kept.get((actual, OTHER), 0) - n
        source = _one([cell for cell, _ in parts], "source")
        named = parts[0][0].named
        rows += [(name, source, model, *map(named, pair), n) for pair, n in sorted(kept.items())]
    table = pl.DataFrame(rows, schema=CONFUSION_SCHEMA, orient="row")
    return table.sort("dataset", "model", maintain_order=True)


def classes(cells: Sequence[ScoredCell]) -> pl.DataFrame:
    """How well each class of tiles is read, folds pooled, sorted; columns of CLASSES_SCHEMA. Texts have no rows.

    challenges: grids that contain the class. solved: the share of them in which exactly its tiles were selected.
    """
    rows = []
    for (name, model), parts in _by_row([cell for cell in cells if cell.class_names]).items():
        pooled = reduce(add, (counts for _, counts in parts))
        source = _one([cell for cell, _ in parts], "source")
        for symbol, scored in class_scores(pooled.confusion).items():
            challenges, solved = (pooled.selections or {})[symbol]
            rows.append((name, source, model, parts[0][0].named(symbol), *scored, challenges, solved / challenges))
    return pl.DataFrame(rows, schema=CLASSES_SCHEMA, orient="row").sort("dataset", "model", "class")


def _by_row(cells: Sequence[ScoredCell]) -> dict[tuple[str, str], list[tuple[ScoredCell, Counts]]]:
    """(dataset or part, model) -> the cells of that row of the leaderboard with their counts, in the order of folds."""
    rows: dict[tuple[str, str], list[tuple[ScoredCell, Counts]]] = defaultdict(list)
    for cell in sorted(cells, key=lambda c: (c.dataset, c.model, c.fold)):
        for name, part in cell.parts.items():
            rows[name, cell.model].append((cell, part.counts))
    return rows


def _one(cells: Sequence[ScoredCell], trait: str) -> Any:
    values = {getattr(cell, trait) for cell in cells}
    if len(values) > 1:
        names = f"{cells[0].dataset}-{cells[0].model}"
        raise InputError(f"metrics/cells/{names}-*.json: folds differ in {trait} {sorted(values)}; run `dvc repro`")
    return values.pop()


def _check_same_images(cells: Sequence[ScoredCell]) -> None:
    """Check that all models of a dataset, `union` included, read the same images of a fold, and that folds differ.

    Raises InputError.
    """
    seen: dict[tuple[str, int], tuple[str, ScoredCell]] = {}
    for cell in cells:
        for name, part in cell.parts.items():
            dataset = name.removeprefix(f"{UNION}/")
            digest, first = seen.setdefault((dataset, cell.fold), (part.samples, cell))
            if digest != part.samples:
                one, other = (scored.cell for scored in (first, cell))
                raise InputError(
                    f"metrics/cells: {one} and {other} were scored on different images of {dataset}; "
                    "run `dvc repro score`"
                )
    folds: dict[tuple[str, str], int] = {}
    for (name, fold), (digest, _) in seen.items():
        if folds.setdefault((name, digest), fold) != fold:
            earlier = folds[name, digest]
            raise InputError(
                f"metrics/cells: folds {earlier} and {fold} of {name} hold the same images; run `dvc repro`"
            )
