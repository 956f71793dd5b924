"""Normalisation of images of texts: from a raw file to shards, with folds and a list of rejects."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.config import NormalizeParams
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError
from captchabench.normalize.cleaning import Rows, clean_images
from captchabench.normalize.duplicates import duplicate_groups
from captchabench.normalize.folds import assign_folds, check_folds
from captchabench.samples.raw import RawInfo
from captchabench.samples.shards import ShardInfo, schema, write_shards

PART_BYTES = 64 << 20
_ROWS_AT_ONCE = 1024


def normalize(
    dataset: Dataset,
    source: Path,
    params: NormalizeParams,
    folds: int,
    shards: Path,
    rejects: Path,
    workers: int | None = None,
) -> dict[str, Any]:
    """Turn the raw file `source` into the folder `shards` and the list `rejects`; return figures to publish.

    Raises InputError if too many images are rejected, none is kept, or a fold is empty or far from its share. The
    shards are then unchanged, but the list of rejects is written, so that the user can look up the reasons.
    """
    with clean_images(dataset, source, params, rejects, shards.parent, workers) as cleaned:
        ids = np.array(cleaned.rows.ids)[cleaned.kept]
        labels = [cleaned.rows.labels[i] for i in cleaned.kept]
        groups = duplicate_groups(np.concatenate(cleaned.rows.hashes)[cleaned.kept], labels)
        fold_of = assign_folds(ids, groups, folds)
        check_folds(dataset.key, fold_of, groups, folds, [cleaned.rows.names[i] for i in cleaned.kept])
        info = _shard_info(dataset, cleaned.info, params, labels)
        batches = _gather(info, cleaned.rows, cleaned.kept, fold_of, cleaned.spool)
        write_shards(shards, info, batches, max(1, PART_BYTES // (params.height * params.width)))
    return {
        **cleaned.figures(fold_of, groups),
        "symbols": dict(Counter("".join(labels))),
        "label_lengths": {str(length): number for length, number in Counter(map(len, labels)).items()},
    }


def _shard_info(dataset: Dataset, info: RawInfo, params: NormalizeParams, labels: Sequence[str]) -> ShardInfo:
    lengths = [len(label) for label in labels]
    return ShardInfo(
        dataset=dataset.key,
        source=info.source,
        version=info.version,
        height=params.height,
        width=params.width,
        alphabet=dataset.symbols or _symbols_of(labels, dataset),
        min_length=dataset.min_length or min(lengths),
        max_length=dataset.max_length or max(lengths),
        resize=params.resize,
        clahe=params.clahe,
    )


def _symbols_of(labels: Sequence[str], dataset: Dataset) -> str:
    """The symbols that occur, in code point order. Raises InputError if there are too many."""
    try:
        return Alphabet.of(labels).symbols
    except InputError as error:
        raise InputError(f"{dataset.key}: {error}; is datasets.{dataset.key}.labels the right rule?") from None


def _gather(
    info: ShardInfo, rows: Rows, kept: NDArray[np.int64], folds: NDArray[np.int8], spool: IO[bytes]
) -> Iterator[pa.RecordBatch]:
    """The kept rows, in order, with their pixels read from the spool."""
    size = info.height * info.width
    for start in range(0, len(kept), _ROWS_AT_ONCE):
        chosen = kept[start : start + _ROWS_AT_ONCE]
        # Not a memory map: its pages would count as memory of this process.
        pixels = b"".join(os.pread(spool.fileno(), size, int(row) * size) for row in chosen)
        yield pa.record_batch(
            [
                pa.array([rows.ids[i] for i in chosen]),
                pa.array([rows.labels[i] for i in chosen]),
                pa.array(folds[start : start + _ROWS_AT_ONCE]),
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(chosen), [None, pa.py_buffer(pixels)]),
                pa.array([rows.names[i] for i in chosen]),
            ],
            schema=schema(info),
        )
