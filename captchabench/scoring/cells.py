"""The score of one cell (dataset, model, fold), kept as sums that can be pooled exactly."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.predictions.held_out import PredictionInfo, read_predictions
from captchabench.scoring.counts import Counts
from captchabench.storage.files import write_json

# Float32 probabilities may exceed 1 by a rounding error of at most this.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Part:
    """Counts over some images of a cell. samples: a digest of their datasets, sample_ids and labels."""

    samples: str
    counts: Counts


@dataclass(frozen=True)
class ScoredCell:
    """One scored cell.

    parts: the counts of all images, under the name of the dataset; for `union` also those of each member, under
    `union/member`. class_names: of grids, symbol -> class; empty for texts. pretraining, precision: see
    models.base.Provenance.
    """

    dataset: str
    model: str
    fold: int
    source: str
    version: int
    parameters: int
    parts: Mapping[str, Part]
    class_names: Mapping[str, str] = field(default_factory=dict)
    pretraining: str = ""
    precision: str = ""

    @property
    def cell(self) -> Cell:
        """The cell that was scored."""
        return Cell(self.dataset, self.model, self.fold)

    def named(self, symbol: str) -> str:
        """A symbol as it is shown to users: itself, or the class that it stands for."""
        return self.class_names.get(symbol, symbol)


def score_predictions(path: Path) -> ScoredCell:
    """Score one cell's predictions file.

    Raises InputError if the file is empty or damaged, has an image twice or of another fold, a value is missing, or a
    confidence or loss is out of range.
    """
    info, table = checked_predictions(path)
    classes = dict(zip(info.alphabet, info.class_names, strict=True)) if info.class_names else {}
    try:
        parts = {name: _part(rows, grids=bool(classes)) for name, rows in parts_of(info, table).items()}
    except ValueError:
        raise InputError(f"{path}: a grid was read as more or fewer tiles than it has; {_again(info)}") from None
    traits = ("dataset", "model", "fold", "source", "version", "parameters", "pretraining", "precision")
    return ScoredCell(**{name: getattr(info, name) for name in traits}, parts=parts, class_names=classes)


def checked_predictions(path: Path) -> tuple[PredictionInfo, pa.Table]:
    """One cell's predictions, after all checks. Raises InputError as `score_predictions` does."""
    info, table = read_predictions(path)
    _check(path, info, table)
    return info, table


def parts_of(info: PredictionInfo, table: pa.Table) -> dict[str, pa.Table]:
    """Name of the part in the leaderboard -> its rows, as in ScoredCell.parts."""
    parts = {info.dataset: table}
    members = sorted(pc.unique(table["dataset"]).to_pylist())
    if members != [info.dataset]:
        for member in members:
            parts[f"{info.dataset}/{member}"] = table.filter(pc.equal(table["dataset"], member))
    return parts


def samples_digest(datasets: Sequence[str], sample_ids: Sequence[str], labels: Sequence[str]) -> str:
    """The digest of N images and their labels, in any order: see Part.samples."""
    rows = zip(datasets, sample_ids, labels, strict=True)
    return hashlib.sha256("\n".join(sorted(map("\t".join, rows))).encode()).hexdigest()[:16]


def confidences_of(table: pa.Table) -> NDArray[np.float32]:
    """Confidences of N checked predictions: [N] from 0 to 1."""
    confidences: NDArray[np.float32] = table["confidence"].to_numpy()
    return np.clip(confidences, 0, 1)


def right_of(table: pa.Table) -> NDArray[np.bool_]:
    """Which of N predictions are exact: [N]."""
    right: NDArray[np.bool_] = pc.equal(table["label"], table["prediction"]).to_numpy()
    return right


def write_cell(path: Path, cell: ScoredCell) -> None:
    """Write a cell as JSON with sorted keys, completely or not at all."""
    parts = {name: {"samples": p.samples, **p.counts.as_json()} for name, p in cell.parts.items()}
    values = {**vars(cell), "parts": parts}
    # Left out for texts, so that their files stay byte-identical to those from before there were grids.
    if not cell.class_names:
        del values["class_names"]
    write_json(path, values)


def read_cell(folder: Path, cell: Cell) -> ScoredCell:
    """Read the file that `write_cell` wrote. Raises InputError if it is missing, damaged or of another cell."""
    path = folder / f"{cell}.json"
    again = "run `dvc repro score`"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        parts = {n: Part(p["samples"], Counts.from_json(p)) for n, p in values["parts"].items()}
        scored = ScoredCell(**{**values, "parts": parts})
    except FileNotFoundError:
        raise InputError(f"{path}: missing; {again}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not one of our cells ({error!r}); {again}") from None
    if scored.cell != cell:
        raise InputError(f"{path}: holds {scored.cell}; {again}")
    if cell.dataset not in scored.parts:
        raise InputError(f"{path}: is not one of our cells (no part '{cell.dataset}'); {again}")
    return scored


def _part(table: pa.Table, *, grids: bool) -> Part:
    losses = table["ctc_loss"]
    counts = Counts.of(
        table["label"].to_pylist(),
        table["prediction"].to_pylist(),
        confidences_of(table),
        None if losses.null_count else losses.to_numpy().astype(np.float64),
        grids=grids,
    )
    return Part(samples_digest(*(table[c].to_pylist() for c in ("dataset", "sample_id", "label"))), counts)


def _again(info: PredictionInfo) -> str:
    return f"run {info.cell.command('predict')}"


def _check(path: Path, info: PredictionInfo, table: pa.Table) -> None:
    again = _again(info)
    if not table.num_rows:
        raise InputError(f"{path}: holds no predictions; fold {info.fold} of {info.dataset} is empty")
    for column in table.column_names:
        missing = table[column].null_count
        if missing and not (column == "ctc_loss" and missing == table.num_rows):
            raise InputError(f"{path}: {missing} of {table.num_rows} rows have no {column}; {again}")
    folds = set(pc.unique(table["fold"]).to_pylist())
    if folds != {info.fold}:
        raise InputError(f"{path}: holds images of folds {sorted(folds)}, not of {info.fold} alone; {again}")
    if pc.min(pc.binary_length(table["label"])).as_py() == 0:
        raise InputError(f"{path}: has an empty label; {again}")
    pairs = table.group_by(["dataset", "sample_id"]).aggregate([([], "count_all")])
    if pairs.num_rows < table.num_rows:
        duplicate = pairs.filter(pc.greater(pairs["count_all"], 1))["sample_id"][0]
        raise InputError(f"{path}: image {duplicate} is predicted more than once; {again}")
    confidence = table["confidence"].to_numpy()
    if not ((confidence >= -_ROUNDING) & (confidence <= 1 + _ROUNDING)).all():
        raise InputError(f"{path}: has a confidence outside 0 to 1; {again}")
    if not table["ctc_loss"].null_count and not np.isfinite(table["ctc_loss"].to_numpy()).all():
        raise InputError(f"{path}: has a CTC loss that is not finite: {info.model} has diverged; lower its rate")
