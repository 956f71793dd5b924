"""Normalisation of tiles: from a raw file to shards of grids, each composed of nine tiles of the same fold."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet, class_alphabet
from captchabench.config import NormalizeParams, TileParams
from captchabench.datasets.base import ROWS, TILES, Dataset
from captchabench.errors import InputError
from captchabench.normalize.cleaning import Cleaned, clean_images
from captchabench.normalize.duplicates import duplicate_groups
from captchabench.normalize.folds import assign_folds, check_folds
from captchabench.normalize.grids import assign_grids, compose
from captchabench.normalize.normalizer import sample_id
from captchabench.normalize.texts import PART_BYTES
from captchabench.samples.shards import ShardInfo, schema, write_shards

_GRIDS_AT_ONCE = 512


def normalize_tiles(
    dataset: Dataset,
    source: Path,
    params: NormalizeParams,
    tiles: TileParams,
    folds: int,
    shards: Path,
    rejects: Path,
    workers: int | None = None,
) -> dict[str, Any]:
    """Turn the raw file `source` of tiles into the folder `shards` of grids and the list `rejects`; return figures.

    params: how tiles are resized. tiles: the size of the grids; a tile has a third of their height and width. The
    classes are those of the kept tiles, ordered by name. Raises InputError like `normalize`, and if there are too few
    or too many classes, or a fold has too few tiles for one grid.
    """
    size = replace(params, height=tiles.height // ROWS, width=tiles.width // ROWS)
    with clean_images(dataset, source, size, rejects, shards.parent, workers) as cleaned:
        ids = np.array(cleaned.rows.ids)[cleaned.kept]
        labels = [cleaned.rows.labels[i] for i in cleaned.kept]
        names = sorted(set(labels))
        if len(names) < 2:
            raise InputError(
                f"{dataset.key}: the tiles kept are all of one class, '{names[0]}'; give a folder for each class, "
                "with its images in it"
            )
        groups = duplicate_groups(np.concatenate(cleaned.rows.hashes)[cleaned.kept], labels)
        fold_of = assign_folds(ids, groups, folds)
        check_folds(dataset.key, fold_of, groups, folds, [cleaned.rows.names[i] for i in cleaned.kept])
        per_fold = np.bincount(fold_of, minlength=folds)
        if per_fold.min() < TILES:
            raise InputError(
                f"params.yaml: folds.count: fold {int(np.argmin(per_fold))} of '{dataset.key}' has {per_fold.min()} "
                f"tiles, and a grid takes {TILES}, with {folds} folds of {len(ids)} tiles; lower it, or raise "
                f"datasets.{dataset.key}.images"
            )
        grids = assign_grids(ids, fold_of, tiles.seed)
        info = ShardInfo(
            dataset=dataset.key,
            source=cleaned.info.source,
            version=cleaned.info.version,
            height=tiles.height,
            width=tiles.width,
            alphabet=class_alphabet(len(names)).symbols,
            min_length=TILES,
            max_length=TILES,
            resize=params.resize,
            clahe=params.clahe,
            task="grid",
            class_names=tuple(names),
        )
        batches = _gather(info, cleaned, labels, grids, fold_of)
        write_shards(shards, info, batches, max(1, PART_BYTES // (tiles.height * tiles.width)))
    return {
        **cleaned.figures(fold_of, groups),
        "symbols": dict(Counter(labels)),
        "grids": {str(fold): int(number) for fold, number in enumerate(np.bincount(fold_of[grids[:, 0]]))},
        "tiles_left_over": len(ids) - grids.size,
    }


def _gather(
    info: ShardInfo, cleaned: Cleaned, labels: list[str], grids: NDArray[np.int64], folds: NDArray[np.int8]
) -> Iterator[pa.RecordBatch]:
    """The grids, ordered by sample_id.

    labels, folds: K each, of the kept tiles. grids: [G, 9], the indices of each grid's tiles among them.
    """
    shape = (len(cleaned.rows.ids), info.height // ROWS, info.width // ROWS)
    # A memory map, since the pixels may not fit into memory.
    pixels = np.memmap(cleaned.spool, np.uint8, "r", shape=shape)

    def composed(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        return compose(pixels[cleaned.kept[grids[chosen]]])

    rows = np.arange(len(grids))
    parts = [rows[start : start + _GRIDS_AT_ONCE] for start in range(0, len(rows), _GRIDS_AT_ONCE)]
    ids = np.array([sample_id(grid) for part in parts for grid in composed(part)])
    order = np.argsort(ids, kind="stable")
    symbol = dict(zip(info.class_names, Alphabet(info.alphabet).symbols, strict=True))
    for part in np.split(order, range(_GRIDS_AT_ONCE, len(order), _GRIDS_AT_ONCE)):
        tiles = grids[part]
        flat = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(info.height * info.width), len(part), [None, pa.py_buffer(composed(part).reshape(-1))]
        )
        yield pa.record_batch(
            [
                pa.array(ids[part]),
                pa.array(["".join(symbol[labels[i]] for i in grid) for grid in tiles]),
                pa.array(folds[tiles[:, 0]].astype(np.int8)),
                flat,
                pa.array([_name(cleaned, grid) for grid in tiles]),
            ],
            schema=schema(info),
        )


def _name(cleaned: Cleaned, grid: NDArray[np.int64]) -> str:
    """The name of a grid: the names of its tiles in JSON, see `tile_names`."""
    return json.dumps([cleaned.rows.names[i] for i in cleaned.kept[grid]])
