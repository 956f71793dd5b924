"""Splits the samples of a cell into training, validation and held-out samples."""

import hashlib

import numpy as np

from captchabench.cells.cell import SHARDS, Cell
from captchabench.config import Params
from captchabench.datasets import UNION
from captchabench.errors import InputError
from captchabench.samples.shards import Samples, read_samples, read_union


def read_cell_samples(cell: Cell, params: Params) -> Samples:
    """All folds of the cell's dataset; for `union`, of all datasets of texts."""
    if cell.dataset == UNION:
        return read_union([SHARDS / member for member in params.matrix.datasets], UNION)
    return read_samples(SHARDS / cell.dataset)


def held_out(samples: Samples, fold: int) -> Samples:
    """The samples of `fold`. Raises InputError if there are none."""
    mask = samples.folds == fold
    if not mask.any():
        raise InputError(
            f"{samples.info.dataset}: fold {fold} holds no images (folds seen: "
            f"{sorted(set(samples.folds.tolist()))}); change matrix.folds or folds.count in params.yaml, or add images"
        )
    return samples.where(mask)


def split_rest(samples: Samples, fold: int, validation_share: float, seed: int) -> tuple[Samples, Samples]:
    """Training and validation samples, from all folds but `fold`.

    validation_share: of these samples, 0 to 1. A hash of seed and sample_id decides, so that added images do not move
    others between the two. Raises InputError if either would be empty.
    """
    rest = samples.where(samples.folds != fold)
    uniform = np.array([_uniform(seed, sample_id) for sample_id in rest.sample_ids])
    in_validation = uniform < validation_share
    if not in_validation.any() or in_validation.all():
        raise InputError(
            f"{samples.info.dataset}: {len(rest)} images outside fold {fold} are too few to train and validate; "
            f"raise datasets.{samples.info.dataset}.images or training.validation_share in params.yaml"
        )
    return rest.where(~in_validation), rest.where(in_validation)


def balanced(samples: Samples, balance: float) -> Samples:
    """The samples, those of smaller datasets several times, so that a merged training sees more of them.

    A dataset of n images, the largest having N, is repeated round((N / n) ** balance) times. balance: from 0, each
    image once, to 1, datasets of about equal size. This is sampling with temperature 1 / (1 - balance), as multilingual
    translation uses it (Arivazhagan et al. 2019, arXiv:1907.05019), in whole repetitions.
    """
    _, member, sizes = np.unique(samples.datasets, return_inverse=True, return_counts=True)
    times = np.rint((sizes.max() / sizes) ** balance).astype(np.int64)
    if times.max() == 1:
        return samples
    return samples.where(np.repeat(np.arange(len(samples)), times[member]))


def _uniform(seed: int, sample_id: str) -> float:
    """A number in [0, 1) that depends only on the arguments."""
    digest = hashlib.blake2b(f"{seed}:{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
