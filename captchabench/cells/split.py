"""Which samples a cell trains on, chooses with and holds out."""

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
    """The samples of `fold`. Raises InputError where it is empty."""
    mask = samples.folds == fold
    if not mask.any():
        raise InputError(
            f"{samples.info.dataset}: fold {fold} holds no images (folds seen: "
            f"{sorted(set(samples.folds.tolist()))}); mend matrix.folds or folds.count in params.yaml, or add images"
        )
    return samples.where(mask)


def split_rest(samples: Samples, fold: int, validation_share: float, seed: int) -> tuple[Samples, Samples]:
    """Training and validation samples out of all folds but `fold`.

    Validation is chosen by a hash of seed and sample_id, so that adding images moves no others between the two.
    Raises InputError where either part would be empty.
    """
    rest = samples.where(samples.folds != fold)
    drawn = np.array([_uniform(seed, sample_id) for sample_id in rest.sample_ids])
    chosen = drawn < validation_share
    if not chosen.any() or chosen.all():
        raise InputError(
            f"{samples.info.dataset}: {len(rest)} images outside fold {fold} are too few to train and validate; "
            f"raise datasets.{samples.info.dataset}.images or training.validation_share in params.yaml"
        )
    return rest.where(~chosen), rest.where(chosen)


def _uniform(seed: int, sample_id: str) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.blake2b(f"{seed}:{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
