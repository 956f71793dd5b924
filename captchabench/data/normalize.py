"""From raw images to shards: decoded, checked, split into folds, with a count of everything left out."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.config import NormalizeParams
from captchabench.data.duplicates import duplicate_groups
from captchabench.data.folds import assign_folds
from captchabench.data.normalizer import Normalized, Normalizer
from captchabench.data.pool import ordered
from captchabench.data.progress import tracked
from captchabench.data.raw import RawInfo, read_info
from captchabench.data.rejects import Reason, Reject, write_rejects
from captchabench.data.shards import ShardInfo, schema, write_shards
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError

PART_BYTES = 64 << 20
_ROWS_AT_ONCE = 1024
_COMMONEST_SIZES = 5


@dataclass
class _Rows:
    """What is known of the sound images; their pixels lie in the spool file, row by row in the same order."""

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[np.ndarray] = field(default_factory=list)
    hashes: list[np.ndarray] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def add(self, batch: Normalized) -> None:
        self.ids += batch.ids
        self.labels += batch.labels
        self.names += batch.names
        self.sizes.append(batch.sizes)
        self.hashes.append(batch.hashes)
        self.rejects += batch.rejects

    def settle_duplicates(self) -> np.ndarray:
        """Indices of the rows to keep, ordered by sample_id; the others join `rejects`."""
        kept = []
        order = sorted(range(len(self.ids)), key=lambda i: (self.ids[i], self.names[i]))
        for _, same in groupby(order, key=self.ids.__getitem__):
            first, *others = same
            if all(self.labels[i] == self.labels[first] for i in others):
                kept.append(first)
                self.rejects += [self._reject(i, Reason.DUPLICATE, f"of {self.names[first]}") for i in others]
                continue
            rivals = sorted({self.labels[i] for i in (first, *others)})
            detail = f"labelled {' and '.join(rivals)}"
            self.rejects += [self._reject(i, Reason.TWO_LABELS_SAME_PIXELS, detail) for i in (first, *others)]
        return np.array(kept, np.int64)

    def _reject(self, row: int, reason: Reason, detail: str) -> Reject:
        return Reject(self.names[row], self.labels[row], reason, detail)


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

    Pixels wait in a file without a name beside the shards, so that memory holds a few row groups and a few
    hundred bytes an image. Raises InputError where too much is dropped, nothing is kept or a fold is empty;
    then the shards are left as they were, but the list of rejects is written, to see what happened.
    """
    info = read_info(source)
    if (info.dataset, info.version) != (dataset.key, dataset.version):
        raise InputError(
            f"{source}: holds {info.dataset} version {info.version}, not {dataset.key} version "
            f"{dataset.version}; run `dvc repro --force ingest@{dataset.key}`"
        )
    shards.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=shards.parent) as spool:
        rows = _Rows()
        file = pq.ParquetFile(source)
        groups = range(file.num_row_groups)
        work = Normalizer(source, dataset, params)
        for batch in tracked(ordered(work, groups, workers), len(groups), f"normalise {dataset.key}"):
            rows.add(batch)
            spool.write(batch.pixels.data)
        spool.flush()
        kept = rows.settle_duplicates()
        write_rejects(rejects, rows.rejects)
        read = file.metadata.num_rows
        counts = Counter(reject.reason for reject in rows.rejects)
        dropped = _check_dropped(dataset, counts, len(kept), read, params.max_rejected, rejects)
        ids = np.array(rows.ids)[kept]
        duplicates = duplicate_groups(np.concatenate(rows.hashes)[kept])
        fold_of = assign_folds(ids, duplicates, folds)
        per_fold = np.bincount(fold_of, minlength=folds)
        if not per_fold.all():
            raise InputError(
                f"params.yaml: folds.count: fold {int(np.argmin(per_fold))} of '{dataset.key}' is empty with "
                f"{folds} folds of {len(kept)} images; lower it, or raise datasets.{dataset.key}.images"
            )
        shard_info = _shard_info(dataset, info, params)
        batches = _gather(shard_info, rows, kept, fold_of, spool)
        write_shards(shards, shard_info, batches, max(1, PART_BYTES // (params.height * params.width)))
    sizes = Counter(f"{width}x{height}" for width, height in np.concatenate(rows.sizes)[kept].tolist())
    labels = [rows.labels[i] for i in kept]
    group_sizes = np.bincount(duplicates)
    return {
        "dataset": dataset.key,
        "source": info.source,
        "version": info.version,
        "images_available": info.available,
        "images_read": read,
        "kept": len(kept),
        "rejected": {str(reason): number for reason, number in counts.items()},
        "rejected_share": round(dropped, 6),
        "skipped_files": dict(info.skipped),
        "folds": {str(fold): int(number) for fold, number in enumerate(per_fold)},
        "near_duplicates": {
            "groups": int((group_sizes > 1).sum()),
            "images": int(group_sizes[group_sizes > 1].sum()),
            "largest_group": int(group_sizes.max()),
        },
        "symbols": dict(Counter("".join(labels))),
        "label_lengths": {str(length): number for length, number in Counter(map(len, labels)).items()},
        # By count, then by name, so that equal counts cannot change places.
        "source_sizes": dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_COMMONEST_SIZES]),
    }


def _check_dropped(dataset: Dataset, counts: Counter[str], kept: int, read: int, limit: float, rejects: Path) -> float:
    """The share of images dropped, copies of kept ones aside. Raises InputError where it is above `limit`."""
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common())
    if not kept:
        raise InputError(f"{dataset.key}: no image of {read} is fit to keep ({reasons}); see {rejects}")
    dropped = (read - kept - counts[Reason.DUPLICATE]) / read
    if dropped > limit:
        raise InputError(
            f"{dataset.key}: {dropped:.1%} of {read} images dropped ({reasons}), more than "
            f"normalize.max_rejected ({limit:.1%}) in params.yaml allows; see {rejects}, "
            "mend the source or raise the limit"
        )
    return dropped


def _shard_info(dataset: Dataset, info: RawInfo, params: NormalizeParams) -> ShardInfo:
    return ShardInfo(
        dataset=dataset.key,
        source=info.source,
        version=info.version,
        height=params.height,
        width=params.width,
        alphabet=dataset.alphabet.symbols,
        min_length=dataset.min_length,
        max_length=dataset.max_length,
        resize=params.resize,
        clahe=params.clahe,
    )


def _gather(
    info: ShardInfo, rows: _Rows, kept: np.ndarray, folds: np.ndarray, spool: IO[bytes]
) -> Iterator[pa.RecordBatch]:
    """The rows to keep, in their order, with their pixels fetched from the spool."""
    size = info.height * info.width
    sizes = np.concatenate(rows.sizes)
    for start in range(0, len(kept), _ROWS_AT_ONCE):
        chosen = kept[start : start + _ROWS_AT_ONCE]
        # Read, not mapped: mapped pages would count as this process's memory.
        pixels = b"".join(os.pread(spool.fileno(), size, int(row) * size) for row in chosen)
        yield pa.record_batch(
            [
                pa.array([rows.ids[i] for i in chosen]),
                pa.array([rows.labels[i] for i in chosen]),
                pa.array(folds[start : start + _ROWS_AT_ONCE]),
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(chosen), [None, pa.py_buffer(pixels)]),
                pa.array([rows.names[i] for i in chosen]),
                pa.array(sizes[chosen, 0]),
                pa.array(sizes[chosen, 1]),
            ],
            schema=schema(info),
        )
