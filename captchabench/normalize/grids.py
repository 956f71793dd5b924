"""Grids of 3x3 tiles: which tiles meet, and the way from tiles to grids and back."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from captchabench.datasets.base import ROWS, TILES


def deal(sample_ids: NDArray[np.str_], folds: NDArray[np.int8], seed: int) -> NDArray[np.int64]:
    """Rows [G, 9] of the tiles that make up each grid. sample_ids, folds: [N].

    A grid's tiles are all of one fold, and each tile is in one grid at most: held-out grids hold no tile, and no copy
    of one, that a model was trained on. Within a fold tiles are dealt in the order of a hash of `seed` and sample_id;
    the last few of a fold, fewer than nine, are left over.
    """
    grids = []
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        order = sorted(rows.tolist(), key=lambda row: _rank(seed, str(sample_ids[row])))
        grids.append(np.array(order[: len(order) // TILES * TILES], np.int64).reshape(-1, TILES))
    return np.concatenate(grids)


def compose(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles [G, 9, h, w], row by row, as grids [G, 3h, 3w]."""
    count, _, height, width = tiles.shape
    apart = tiles.reshape(count, ROWS, ROWS, height, width)
    return np.ascontiguousarray(apart.swapaxes(2, 3)).reshape(count, ROWS * height, ROWS * width)


def tiles_of(grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The tiles [G, 9, h, w] of grids [G, H, W]; a rest that does not divide by three is left out."""
    count, height, width = len(grids), grids.shape[1] // ROWS, grids.shape[2] // ROWS
    whole = grids[:, : ROWS * height, : ROWS * width].reshape(count, ROWS, height, ROWS, width)
    return np.ascontiguousarray(whole.swapaxes(2, 3)).reshape(count, TILES, height, width)


def _rank(seed: int, sample_id: str) -> bytes:
    return blake2b(f"{seed}:{sample_id}".encode(), digest_size=16).digest()
