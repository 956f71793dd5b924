"""The cost of a model: counts, which are the same in every run, and times, which depend on the machine."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.predictions.probes import ProbeInfo
from captchabench.scoring.leaderboard import Timing
from captchabench.storage.tables import Table

COUNTED = pl.Schema(
    {
        "dataset": pl.String(),
        "model": pl.String(),
        "parameters": pl.Int64(),
        "flops": pl.Int64(),
        "bytes_on_disk": pl.Int64(),
    }
)
MEASURED = pl.Schema(
    {
        "dataset": pl.String(),
        "model": pl.String(),
        "train_seconds": pl.Float64(),
        "images_per_second": pl.Float64(),
        "latency_ms": pl.Float64(),
        "device": pl.String(),
        "threads": pl.Int64(),
        "torch": pl.String(),
    }
)
COST = Table("metrics/cost.csv", COUNTED, "probes")
SPEED = Table("reports/cost.csv", MEASURED, "probes")


def read_latency(folder: Path, cell: Cell) -> dict[str, Any]:
    """A cell's `latency_ms`, `device`, `threads` and `torch`, the version of torch or None.

    Raises InputError if the file is missing or damaged.
    """
    path = folder / f"{cell}.json"
    again = "run `dvc repro latency`"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {"torch": None, **values, "latency_ms": float(values["latency_ms"])}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {again}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not one of our latencies ({error!r}); {again}") from None


def counted_cost(infos: Sequence[ProbeInfo]) -> pl.DataFrame:
    """One row per (dataset, model), sorted, the maximum over folds; columns of COUNTED.

    flops: null for a model without a network.
    """
    table = pl.DataFrame([{key: getattr(info, key) for key in COUNTED} for info in infos], COUNTED)
    return table.group_by("dataset", "model").max().sort("dataset", "model")


def measured_cost(timings: Mapping[Cell, Timing], latencies: Mapping[Cell, Mapping[str, Any]]) -> pl.DataFrame:
    """One row per (dataset, model), sorted; columns of MEASURED.

    train_seconds: the mean over folds. images_per_second: all images over all seconds. latency_ms: the median over
    folds of the median time of a single image. device, threads, torch: where the latency was measured.
    """
    folds: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(timings):
        folds.setdefault(cell[:2], []).append(cell)
    rows = []
    for row, cells in folds.items():
        of_folds = [timings[cell] for cell in cells]
        singles = [latencies[cell] for cell in cells]
        rows.append(
            (
                *row,
                statistics.fmean(t.train_seconds for t in of_folds),
                sum(t.images for t in of_folds) / sum(t.predict_seconds for t in of_folds),
                statistics.median(single["latency_ms"] for single in singles),
                "/".join(sorted({single["device"] for single in singles})),
                max(single["threads"] for single in singles),
                "/".join(sorted({single["torch"] for single in singles if single["torch"]})) or None,
            )
        )
    return pl.DataFrame(rows, MEASURED, orient="row")
