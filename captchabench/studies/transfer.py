"""Transfer: models trained on one dataset read every other dataset whose alphabet they know."""

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from captchabench.datasets import UNION
from captchabench.predictions.probes import TRANSFER, ProbeInfo
from captchabench.scoring.cells import ScoredCell
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import wilson
from captchabench.scoring.metrics import cer, exact, exact_folded
from captchabench.storage.tables import Table

SCHEMA = pl.Schema(
    {
        "trained_on": pl.String(),
        "model": pl.String(),
        "read": pl.String(),
        "source": pl.String(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "exact_lo": pl.Float64(),
        "exact_hi": pl.Float64(),
        "exact_folded": pl.Float64(),
        "cer": pl.Float64(),
    }
)
TRANSFER_TABLE = Table("metrics/transfer.csv", SCHEMA, "probes")


def transfer(probes: Sequence[tuple[ProbeInfo, pa.Table]], cells: Sequence[ScoredCell]) -> pl.DataFrame:
    """One row per (dataset trained on, model, dataset read), folds pooled, sorted; columns of SCHEMA.

    The scores on a model's own dataset (`union`: on each member) are those of its `cells`, on the held-out images. The
    scores on other datasets come from its `probes`, on the same fold of the other dataset.

    A pair has no row if the model lacks a symbol of the dataset read. It has one if the texts are longer or shorter
    than those trained on; models of a fixed length then read all of them wrong. Grids have no rows, since other
    datasets do not share their classes.
    """
    pooled: defaultdict[tuple[str, str, str, str], list[Counts]] = defaultdict(list)
    for cell in cells:
        if cell.class_names:
            continue
        for name, part in cell.parts.items():
            if name != UNION:
                read = name.removeprefix(f"{UNION}/")
                pooled[cell.dataset, cell.model, read, cell.source].append(part.counts)
    for info, table in probes:
        read_elsewhere = table.filter(pc.equal(table["probe"], TRANSFER))
        for read in pc.unique(read_elsewhere["dataset"]).to_pylist():
            counts = _count(read_elsewhere.filter(pc.equal(read_elsewhere["dataset"], read)))
            pooled[info.dataset, info.model, read, info.source].append(counts)
    rows = []
    for key, parts in pooled.items():
        counts = reduce(add, parts)
        interval = wilson(counts.exact, counts.n)
        rows.append((*key, counts.n, exact(counts), *interval, exact_folded(counts), cer(counts)))
    return pl.DataFrame(rows, SCHEMA, orient="row").sort("trained_on", "model", "read")


def _count(table: pa.Table) -> Counts:
    # Confidences do not matter here: no metric of this table uses them.
    return Counts.of(table["label"].to_pylist(), table["prediction"].to_pylist(), np.zeros(table.num_rows), losses=None)
