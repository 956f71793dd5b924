"""Retraining noise: how far a cell's exact match and CER move when nothing but the seed of its training changes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from captchabench.datasets import UNION
from captchabench.storage.tables import Table

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "model": pl.String(),
        "parameters": pl.String(),
        "trainings": pl.Int64(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "exact_sd": pl.Float64(),
        "exact_sd_images": pl.Float64(),
        "cer": pl.Float64(),
        "cer_sd": pl.Float64(),
        "cer_sd_images": pl.Float64(),
    }
)
NOISE = Table("metrics/noise.csv", SCHEMA, "noise")
DEFAULT_TRAININGS = 5
# It limits how many images may be rejected, and changes no pixel.
_NOT_PIXELS = "max_rejected"


def parameters_digest(params: Mapping[str, Any], dataset: str, model: str) -> str:
    """A digest of all parameters, except seeds, that a cell's results depend on. Noise is reused until it changes.

    params: the content of params.yaml. dataset: one of the matrix, or `union`.
    """
    matrix = params.get("matrix") or {}
    sections = params.get("datasets") or {}
    tiles = dataset in ((matrix.get("tiles") or {}).get("datasets") or ())
    members, ignored = [dataset], ["seed", "balance"]
    if dataset == UNION:
        members, ignored = list(matrix.get("datasets") or ()), ["seed"]
    used = {
        "source": (params.get("data") or {}).get("source"),
        "datasets": {member: _without(sections.get(member) or {}, "models") for member in members},
        "override": ((sections.get(dataset) or {}).get("models") or {}).get(model),
        "model": (params.get("models") or {}).get(model),
        "normalize": _without(params.get("normalize") or {}, _NOT_PIXELS),
        "folds": params.get("folds"),
        "tiles": _without(params.get("tiles") or {}, "seed") if tiles else None,
        "training": _without(params.get("training") or {}, *ignored),
    }
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:12]


def noise_row(
    right: NDArray[np.bool_], edits: NDArray[np.int64], characters: NDArray[np.int64]
) -> dict[str, float | int]:
    """The spread over K trainings of one cell; the columns of SCHEMA from `trainings` on.

    right, edits: [K, N], whether each training read each held-out image right, and its edits. characters: [N].
    *_sd is the standard deviation of the score over trainings. *_sd_images is the part of it that comes from single
    images, which flip independently of each other (two-way analysis of variance, trainings x images).
    """
    trainings, images = right.shape
    row: dict[str, float | int] = {"trainings": trainings, "n": images}
    # Scaled so that the mean over images is the CER.
    per_image = {"exact": right.astype(np.float64), "cer": edits * (images / characters.sum())}
    for name, values in per_image.items():
        means = values.mean(axis=1)
        residual = values - values.mean(axis=0) - means[:, None] + values.mean()
        within = float((residual**2).sum()) / ((trainings - 1) * max(images - 1, 1))
        row |= {
            name: float(means.mean()),
            f"{name}_sd": float(means.std(ddof=1)),
            f"{name}_sd_images": float(np.sqrt(within / images)),
        }
    return row


def icc(row: Mapping[str, Any]) -> float:
    """The intraclass correlation of one training's errors: the excess of exact_sd, over a single image's variance.

    row: of the table. 0 where all images are read right or all wrong, or where images explain everything.
    """
    spread = row["exact"] * (1 - row["exact"])
    excess = row["exact_sd"] ** 2 - row["exact_sd_images"] ** 2
    return max(float(excess / spread), 0.0) if spread else 0.0


def noise_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The table, sorted; columns of SCHEMA."""
    return pl.DataFrame(rows, SCHEMA).sort("dataset", "model")


def _without(section: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in keys}
