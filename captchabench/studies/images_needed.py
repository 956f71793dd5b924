"""Exact match against the number of training images: whether more images would help a model.

A model is trained on 100, 300, 1,000 and 3,000 of the images outside the held-out fold, and on all. Each part holds the
smaller ones. All parts have the same parameters, and so the same number of steps: the curve then shows what images are
worth to this recipe. A part of the steps would mix two effects, and a schedule of its own for each size would have to
be searched.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from captchabench.samples.shards import Samples
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import wilson
from captchabench.scoring.metrics import cer, exact
from captchabench.studies.noise import parameters_digest

SIZES = (100, 300, 1_000, 3_000)
SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "model": pl.String(),
        "parameters": pl.String(),
        "images": pl.Int64(),
        "folds": pl.Int64(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "exact_lo": pl.Float64(),
        "exact_hi": pl.Float64(),
        "cer": pl.Float64(),
    }
)


def table_path(run: Path) -> Path:
    """The table of a full run, given the path of any of its files in results/."""
    return run.with_name(f"{run.name.partition('.')[0]}.images.csv")


def sizes_below(images: int) -> list[int]:
    """The sizes to train on besides all `images` outside the held-out fold: those that are smaller."""
    return [size for size in SIZES if size < images]


def part(train: Samples, validation: Samples, size: int) -> tuple[Samples, Samples]:
    """Training and validation samples, `size` together, in the proportion of all and at least one of each.

    A hash of the sample_id chooses, so a part holds the smaller ones.
    """
    share = len(validation) / (len(train) + len(validation))
    chosen = max(1, round(size * share))
    return _first(train, size - chosen), _first(validation, chosen)


def _first(samples: Samples, count: int) -> Samples:
    return samples.where(np.sort(hashed_order(samples)[:count]))


def hashed_order(samples: Samples) -> NDArray[np.int64]:
    """Rows ordered by a hash of their sample_id, [N]: the first ones are a choice at random that only grows."""
    digests = [hashlib.blake2b(str(sample_id).encode()).digest() for sample_id in samples.sample_ids]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def row(dataset: str, model: str, parameters: str, images: Sequence[int], counts: Sequence[Counts]) -> dict[str, Any]:
    """One row of the table, folds pooled; the columns of SCHEMA.

    images: how many each fold's model was trained on, validation included; their mean is shown. counts: of each fold.
    The interval is Wilson's over the held-out images: how far another training moves a point is not in it.
    """
    pooled = reduce(add, counts)
    low, high = wilson(pooled.exact, pooled.n)
    return {
        "dataset": dataset,
        "model": model,
        "parameters": parameters,
        "images": round(sum(images) / len(images)),
        "folds": len(counts),
        "n": pooled.n,
        "exact": exact(pooled),
        "exact_lo": low,
        "exact_hi": high,
        "cer": cer(pooled),
    }


def current(table: pl.DataFrame, parameters: Mapping[str, Any]) -> pl.DataFrame:
    """The rows that were measured with these parameters, the content of a run's params.yaml."""
    pairs = table.select("dataset", "model").unique().rows()
    digests = [(dataset, model, parameters_digest(parameters, dataset, model)) for dataset, model in pairs]
    wanted = pl.DataFrame(digests, {name: SCHEMA[name] for name in ("dataset", "model", "parameters")}, orient="row")
    return table.join(wanted, on=wanted.columns, how="semi").sort("dataset", "model", "images")
