"""What confidences are worth, as two tables: reliability bins, and precision against coverage."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from captchabench.errors import InputError
from captchabench.evaluation.calibration import BINS, Reliability
from captchabench.evaluation.cells import checked_predictions, confidences_of, parts_of, right_of
from captchabench.evaluation.risk_coverage import TARGET, RiskCoverage
from captchabench.evaluation.tables import read_table
from captchabench.naming import cell_name, repro_command

_WHOSE = {"dataset": pl.String(), "source": pl.String(), "model": pl.String()}
CALIBRATION_SCHEMA = pl.Schema(
    {
        **_WHOSE,
        "bin_lo": pl.Float64(),
        "bin_hi": pl.Float64(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "confidence": pl.Float64(),
    }
)
RISK_SCHEMA = pl.Schema(
    {
        **_WHOSE,
        "coverage": pl.Float64(),
        "precision": pl.Float64(),
        # Written in full: many models are surer than 0.999999.
        "threshold": pl.Float32(),
    }
)
_DECIMALS = 6


@dataclass(frozen=True)
class Confidences:
    """All folds of one row of the leaderboard: [N] float32 confidences, and [N] bool whether they were right."""

    dataset: str
    source: str
    model: str
    confidences: np.ndarray
    right: np.ndarray


def read_confidences(folder: Path, cells: Sequence[tuple[str, str, int]]) -> list[Confidences]:
    """Confidences of the cells (dataset, model, fold), folds pooled; `union` also by member, as `union/member`.

    Raises InputError where predictions are missing, damaged or of another cell.
    """
    found: dict[tuple[str, str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for place in sorted(cells):
        name = cell_name(*place)
        path = folder / f"{name}.parquet"
        info, table = checked_predictions(path)
        if (info.dataset, info.model, info.fold) != place:
            raise InputError(f"{path}: holds another cell; run {repro_command('predict', name)}")
        for part, rows in parts_of(info, table).items():
            found[part, info.source, info.model].append((confidences_of(rows), right_of(rows)))
    return [
        Confidences(*whose, np.concatenate([sure for sure, _ in folds]), np.concatenate([right for _, right in folds]))
        for whose, folds in sorted(found.items())
    ]


def calibration_table(rows: Sequence[Confidences]) -> pl.DataFrame:
    """Reliability bins that hold an image: share of images exact, and mean confidence; CALIBRATION_SCHEMA."""
    lines = []
    for row in rows:
        bins = Reliability.of(row.confidences, row.right)
        for i, (n, exact, sure) in enumerate(zip(bins.samples, bins.exact, bins.confidence, strict=True)):
            if n:
                edges = (i / BINS, (i + 1) / BINS)
                numbers = (round(number, _DECIMALS) for number in (exact / n, sure / n))
                lines.append((row.dataset, row.source, row.model, *(round(e, _DECIMALS) for e in edges), n, *numbers))
    return pl.DataFrame(lines, schema=CALIBRATION_SCHEMA, orient="row")


def risk_table(rows: Sequence[Confidences]) -> pl.DataFrame:
    """Precision against coverage, at most 60 points a row of the leaderboard, most confident first; RISK_SCHEMA.

    Precision is rounded down, so that none reaches 99 % by rounding.
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


def read_risk(path: Path) -> pl.DataFrame:
    """The table that the calibration stage wrote from `risk_table`. Raises InputError if it is missing or another."""
    return read_table(path, RISK_SCHEMA, "calibration")


def coverage_at_target(risk: pl.DataFrame) -> dict[tuple[str, str], float]:
    """(dataset, model) -> largest share of images that is read with 99 % precision; 0 where none is."""
    numerator, denominator = TARGET
    enough = pl.when(pl.col("precision") >= numerator / denominator).then("coverage").otherwise(0.0)
    best = risk.group_by("dataset", "model").agg(enough.max().alias("best"))
    return {(dataset, model): share for dataset, model, share in best.iter_rows()}
