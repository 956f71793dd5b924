"""From raw tiles to shards of grids: each tile normalised and given a fold, then nine of a fold to a grid."""

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
from captchabench.normalize.cleaning import Cleaned, cleaned
from captchabench.normalize.duplicates import duplicate_groups
from captchabench.normalize.folds import assign_folds
from captchabench.normalize.grids import compose, deal
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

    Tiles are resized as `params` says, to a ninth of the grid that `tiles` asks for. The classes are those of the tiles
    kept, in the order of their names. Raises InputError as `normalize` does, and where there are too few classes, or
    too many, or a fold has not the tiles for one grid.
    """
    size = replace(params, height=tiles.height // ROWS, width=tiles.width // ROWS)
    with cleaned(dataset, source, size, rejects, shards.parent, workers) as found:
        ids = np.array(found.rows.ids)[found.kept]
        labels = [found.rows.labels[i] for i in found.kept]
        names = sorted(set(labels))
        if len(names) < 2:
            raise InputError(
                f"{dataset.key}: the tiles kept are all of one class, '{names[0]}'; give a folder for each class, "
                "with its images in it"
            )
        groups = duplicate_groups(np.concatenate(found.rows.hashes)[found.kept])
        fold_of = assign_folds(ids, groups, folds)
        per_fold = np.bincount(fold_of, minlength=folds)
        if per_fold.min() < TILES:
            raise InputError(
                f"params.yaml: folds.count: fold {int(np.argmin(per_fold))} of '{dataset.key}' has {per_fold.min()} "
                f"tiles, and a grid takes {TILES}, with {folds} folds of {len(ids)} tiles; lower it, or raise "
                f"datasets.{dataset.key}.images"
            )
        places = deal(ids, fold_of, tiles.seed)
        info = ShardInfo(
            dataset=dataset.key,
            source=found.info.source,
            version=found.info.version,
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
        batches = _gather(info, found, labels, places, fold_of)
        write_shards(shards, info, batches, max(1, PART_BYTES // (tiles.height * tiles.width)))
    return {
        **found.figures(fold_of, groups),
        "symbols": dict(Counter(labels)),
        "grids": {str(fold): int(number) for fold, number in enumerate(np.bincount(fold_of[places[:, 0]]))},
        "tiles_left_over": len(ids) - places.size,
    }


def _gather(
    info: ShardInfo, found: Cleaned, labels: list[str], places: NDArray[np.int64], folds: NDArray[np.int8]
) -> Iterator[pa.RecordBatch]:
    """The grids in the order of their sample_ids. places: [G, 9] of the kept tiles; labels, folds: theirs."""
    shape = (len(found.rows.ids), info.height // ROWS, info.width // ROWS)
    # Mapped, so that memory holds no more of it than there is room for.
    pixels = np.memmap(found.spool, np.uint8, "r", shape=shape)

    def grids(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        return compose(pixels[found.kept[places[chosen]]])

    rows = np.arange(len(places))
    parts = [rows[start : start + _GRIDS_AT_ONCE] for start in range(0, len(rows), _GRIDS_AT_ONCE)]
    ids = np.array([sample_id(grid) for part in parts for grid in grids(part)])
    order = np.argsort(ids, kind="stable")
    symbol = dict(zip(info.class_names, Alphabet(info.alphabet).symbols, strict=True))
    for part in np.split(order, range(_GRIDS_AT_ONCE, len(order), _GRIDS_AT_ONCE)):
        drawn = grids(part).reshape(-1)
        tiles = places[part]
        flat = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(info.height * info.width), len(part), [None, pa.py_buffer(drawn)]
        )
        yield pa.record_batch(
            [
                pa.array(ids[part]),
                pa.array(["".join(symbol[labels[i]] for i in grid) for grid in tiles]),
                pa.array(folds[tiles[:, 0]].astype(np.int8)),
                flat,
                pa.array([_name(found, grid) for grid in tiles]),
            ],
            schema=schema(info),
        )


def _name(found: Cleaned, grid: NDArray[np.int64]) -> str:
    """The names of a grid's tiles as one text, which `tile_names` takes apart."""
    return json.dumps([found.rows.names[i] for i in found.kept[grid]])
