"""Grids of 3x3 tiles: which tiles form a grid, and conversion between tiles and grids."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from captchabench.datasets.base import ROWS, TILES


def assign_grids(sample_ids: NDArray[np.str_], folds: NDArray[np.int8], seed: int) -> NDArray[np.int64]:
    """The rows [G, 9] of the tiles of each grid. sample_ids, folds: [N], of the tiles.

    All tiles of a grid are in the same fold, and each tile is in at most one grid. So held-out grids contain no tile
    that a model was trained on, and no copy of one. Within a fold, tiles are taken in the order of a hash of `seed` and
    sample_id. The last tiles of a fold, fewer than nine, are left out.
    """
    grids = []
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        order = sorted(rows.tolist(), key=lambda row: _rank(seed, str(sample_ids[row])))
        grids.append(np.array(order[: len(order) // TILES * TILES], np.int64).reshape(-1, TILES))
    return np.concatenate(grids)


def compose(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grids [G, 3h, 3w] of tiles [G, 9, h, w], which are ordered row by row."""
    count, _, height, width = tiles.shape
    separate = tiles.reshape(count, ROWS, ROWS, height, width)
    return np.ascontiguousarray(separate.swapaxes(2, 3)).reshape(count, ROWS * height, ROWS * width)


def split_grids(grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The tiles [G, 9, h, w] of grids [G, H, W]. Rows and columns beyond a multiple of three are left out."""
    count, height, width = len(grids), grids.shape[1] // ROWS, grids.shape[2] // ROWS
    whole = grids[:, : ROWS * height, : ROWS * width].reshape(count, ROWS, height, ROWS, width)
    return np.ascontiguousarray(whole.swapaxes(2, 3)).reshape(count, TILES, height, width)


def _rank(seed: int, sample_id: str) -> bytes:
    return blake2b(f"{seed}:{sample_id}".encode(), digest_size=16).digest()
