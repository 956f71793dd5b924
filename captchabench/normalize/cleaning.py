"""The first half of normalisation: raw images decoded and checked; the sound ones wait in a file, others are listed."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from captchabench.config import NormalizeParams
from captchabench.datasets import stage_name
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError
from captchabench.normalize.normalizer import Normalized, Normalizer
from captchabench.normalize.rejects import Reason, Reject, write_rejects
from captchabench.pool import ordered
from captchabench.progress import tracked
from captchabench.samples.raw import RawInfo, read_info

_COMMONEST_SIZES = 5


@dataclass
class Rows:
    """What is known of the sound images; their pixels lie in the spool file, row by row in the same order."""

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[NDArray[np.int32]] = field(default_factory=list)
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def add(self, batch: Normalized) -> None:
        self.ids += batch.ids
        self.labels += batch.labels
        self.names += batch.names
        self.sizes.append(batch.sizes)
        self.hashes.append(batch.hashes)
        self.rejects += batch.rejects

    def settle_duplicates(self) -> NDArray[np.int64]:
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


@dataclass(frozen=True)
class Cleaned:
    """The images of a raw file that are fit to keep.

    kept: rows [K], ordered by sample_id. spool: the pixels of all of `rows`, one after the other. read: images in the
    raw file; counts: of the rejected, by reason; dropped: the share of them.
    """

    info: RawInfo
    rows: Rows
    kept: NDArray[np.int64]
    spool: IO[bytes]
    read: int
    counts: Counter[str]
    dropped: float

    def figures(self, folds: NDArray[np.int8], groups: NDArray[np.int64]) -> dict[str, Any]:
        """What to publish of kept images with `folds` [K] and in `groups` [K] of near-duplicates."""
        sizes = Counter(f"{width}x{height}" for width, height in np.concatenate(self.rows.sizes)[self.kept].tolist())
        group_sizes = np.bincount(groups)
        return {
            "dataset": self.info.dataset,
            "source": self.info.source,
            "version": self.info.version,
            "images_available": self.info.available,
            "images_read": self.read,
            "kept": len(self.kept),
            "rejected": {str(reason): number for reason, number in self.counts.items()},
            "rejected_share": round(self.dropped, 6),
            "skipped_files": dict(self.info.skipped),
            "folds": {str(fold): int(number) for fold, number in enumerate(np.bincount(folds))},
            "near_duplicates": {
                "groups": int((group_sizes > 1).sum()),
                "images": int(group_sizes[group_sizes > 1].sum()),
                "largest_group": int(group_sizes.max()),
            },
            # By count, then by name, so that equal counts cannot change places.
            "source_sizes": dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_COMMONEST_SIZES]),
        }


@contextmanager
def cleaned(
    dataset: Dataset, source: Path, params: NormalizeParams, rejects: Path, folder: Path, workers: int | None
) -> Iterator[Cleaned]:
    """Decode and check the raw file `source`, and write the list `rejects`.

    Pixels wait in a file without a name in `folder`, so that memory holds a few row groups and a few hundred bytes an
    image. Raises InputError where too much is dropped or nothing is kept; the list is written all the same.
    """
    info = read_info(source)
    if (info.dataset, info.version) != (dataset.key, dataset.version):
        raise InputError(
            f"{source}: holds {info.dataset} version {info.version}, not {dataset.key} version "
            f"{dataset.version}; run `dvc repro --force {stage_name('ingest', dataset.key)}`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as spool:
        rows = Rows()
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
        yield Cleaned(info, rows, kept, spool, read, counts, dropped)


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
