"""How reliable confidences are, as two tables: reliability bins, and precision against coverage."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.scoring.calibration import BINS, Reliability
from captchabench.scoring.cells import checked_predictions, confidences_of, parts_of, right_of
from captchabench.storage.tables import Table

_ROW = {"dataset": pl.String(), "source": pl.String(), "model": pl.String()}
CALIBRATION_SCHEMA = pl.Schema(
    {
        **_ROW,
        "bin_lo": pl.Float64(),
        "bin_hi": pl.Float64(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "confidence": pl.Float64(),
    }
)
RISK_SCHEMA = pl.Schema(
    {
        **_ROW,
        "coverage": pl.Float64(),
        "precision": pl.Float64(),
        # Written in full, since many confidences are above 0.999999.
        "threshold": pl.Float32(),
    }
)
_DECIMALS = 6
CALIBRATION = Table("metrics/calibration.csv", CALIBRATION_SCHEMA, "calibration")
RISK = Table("metrics/risk_coverage.csv", RISK_SCHEMA, "calibration")


@dataclass(frozen=True)
class Confidences:
    """All folds of one row of the leaderboard. confidences: [N] from 0 to 1; right: [N], whether the text was exact."""

    dataset: str
    source: str
    model: str
    confidences: NDArray[np.float32]
    right: NDArray[np.bool_]


def read_confidences(folder: Path, cells: Sequence[Cell]) -> list[Confidences]:
    """Confidences of the cells, folds pooled, sorted; for `union` also those of each member, as `union/member`.

    folder: of the predictions. Raises InputError if predictions are missing, damaged or of another cell.
    """
    by_row: dict[tuple[str, str, str], list[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = defaultdict(list)
    for cell in sorted(cells):
        path = folder / f"{cell}.parquet"
        info, table = checked_predictions(path)
        if info.cell != cell:
            raise InputError(f"{path}: holds another cell; run {cell.command('predict')}")
        for part, rows in parts_of(info, table).items():
            by_row[part, info.source, info.model].append((confidences_of(rows), right_of(rows)))
    return [
        Confidences(
            *row, np.concatenate([values for values, _ in folds]), np.concatenate([right for _, right in folds])
        )
        for row, folds in sorted(by_row.items())
    ]


def calibration_table(rows: Sequence[Confidences]) -> pl.DataFrame:
    """One row per reliability bin with images: their number, exact match and mean confidence; CALIBRATION_SCHEMA."""
    lines = []
    for row in rows:
        bins = Reliability.of(row.confidences, row.right)
        for i, (n, exact, confidence) in enumerate(zip(bins.samples, bins.exact, bins.confidence, strict=True)):
            if n:
                low, high, *means = (
                    round(value, _DECIMALS) for value in (i / BINS, (i + 1) / BINS, exact / n, confidence / n)
                )
                lines.append((row.dataset, row.source, row.model, low, high, n, *means))
    return pl.DataFrame(lines, schema=CALIBRATION_SCHEMA, orient="row")


def risk_table(rows: Sequence[Confidences]) -> pl.DataFrame:
    """Precision against coverage, most confident first, at most 60 points per row of the leaderboard; RISK_SCHEMA.

    Precision is rounded down, so that rounding never reaches the target of 99 %.
    """
    lines = []
    for row in rows:
        curve = RiskCoverage.of(row.confidences, row.right).thinned()
        for threshold, read, right in zip(
            curve.thresholds.tolist(), curve.read.tolist(), curve.right.tolist(), strict=True
        ):
            coverage = round(read / len(row.right), _DECIMALS)
            precision = right * 10**_DECIMALS // read / 10**_DECIMALS
            lines.append((row.dataset, row.source, row.model, coverage, precision, threshold))
    return pl.DataFrame(lines, schema=RISK_SCHEMA, orient="row")


def coverage_at_target(risk: pl.DataFrame) -> dict[tuple[str, str], float]:
    """(dataset, model) -> the largest share of images that is read with 99 % precision; 0 if there is none."""
    numerator, denominator = TARGET
    sufficient = pl.when(pl.col("precision") >= numerator / denominator).then("coverage").otherwise(0.0)
    best = risk.group_by("dataset", "model").agg(sufficient.max().alias("best"))
    return {(dataset, model): share for dataset, model, share in best.iter_rows()}


# The precision, 99 of 100, that an unattended reader should have.
TARGET = (99, 100)
POINTS = 60


@dataclass(frozen=True)
class RiskCoverage:
    """Precision and coverage at each distinct confidence, most confident first (El-Yaniv & Wiener 2010).

    thresholds: [K], descending; images with at least this confidence are read. read: [K], the number of these images.
    right: [K], how many of them are exact. Images of equal confidence are read together or not at all.
    """

    thresholds: NDArray[np.float32]
    read: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def of(cls, confidences: NDArray[np.float32], right: NDArray[np.bool_]) -> "RiskCoverage":
        """The curve of N images, at least one. confidences: [N] from 0 to 1; right: [N]."""
        values, inverse, counts = np.unique(confidences, return_inverse=True, return_counts=True)
        hits = np.bincount(inverse, weights=right, minlength=len(values)).astype(np.int64)
        return cls(values[::-1], np.cumsum(counts[::-1]), np.cumsum(hits[::-1]))

    def at_target(self) -> int | None:
        """The index of the largest coverage with at least the target's precision; None if there is none."""
        numerator, denominator = TARGET
        sufficient = np.flatnonzero(self.right * denominator >= self.read * numerator)
        return int(sufficient[-1]) if len(sufficient) else None

    def thinned(self) -> "RiskCoverage":
        """At most POINTS of the points, evenly spread over coverage, including the last and the target's."""
        even = np.linspace(0, self.read[-1], POINTS - 1)
        kept = set(np.searchsorted(self.read, even).tolist())
        target = self.at_target()
        indices = sorted(kept if target is None else kept | {target})
        return RiskCoverage(self.thresholds[indices], self.read[indices], self.right[indices])
