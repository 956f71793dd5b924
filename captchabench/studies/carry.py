"""How far stand-ins carry: what models trained on nothing else read of the images that the stand-ins imitate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from captchabench.cells.cell import Cell
from captchabench.samples.shards import Samples
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import wilson
from captchabench.scoring.metrics import cer, exact, exact_folded
from captchabench.storage.tables import Table

SCHEMA = pl.Schema(
    {
        "read": pl.String(),
        "source": pl.String(),
        "trained_on": pl.String(),
        "model": pl.String(),
        "fold": pl.Int64(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "exact_lo": pl.Float64(),
        "exact_hi": pl.Float64(),
        "exact_folded": pl.Float64(),
        "cer": pl.Float64(),
    }
)
CARRY = Table("metrics/carry.csv", SCHEMA, "carry")


@dataclass(frozen=True)
class Carried:
    """What the model of `cell`, trained on stand-ins, read of `samples` (N texts), which it has never seen."""

    cell: Cell
    samples: Samples
    texts: list[str]


def carry(readings: Sequence[Carried]) -> pl.DataFrame:
    """One row per reading, sorted; columns of SCHEMA.

    Folds are not pooled: the models of two folds read the same images, so their counts are not independent.
    """
    rows = []
    for reading in readings:
        info, cell = reading.samples.info, reading.cell
        # Confidences are not asked for here.
        counts = Counts.of(reading.samples.labels.tolist(), reading.texts, np.zeros(len(reading.texts)), losses=None)
        interval = wilson(counts.exact, counts.n)
        figures = (counts.n, exact(counts), *interval, exact_folded(counts), cer(counts))
        rows.append((info.dataset, info.source, *cell, *figures))
    return pl.DataFrame(rows, SCHEMA, orient="row").sort("read", "trained_on", "model", "fold")
