"""The first half of normalisation: decode, check and resize raw images, remove duplicates, list rejects."""

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
from captchabench.normalize.images import Repair
from captchabench.normalize.normalizer import Normalized, Normalizer
from captchabench.normalize.rejects import WITHOUT_IMAGE, Reason, Reject, write_rejects
from captchabench.pool import ordered
from captchabench.progress import tracked
from captchabench.samples.raw import RawInfo, read_info

_LISTED_SIZES = 5
_LISTED_LABELS = 5


@dataclass
class Rows:
    """The accepted images without pixels, which are in the spool file in the same order; and the rejects."""

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[NDArray[np.int32]] = field(default_factory=list)
    hashes: list[NDArray[np.uint64]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    repairs: Counter[Repair] = field(default_factory=Counter)

    def add(self, batch: Normalized) -> None:
        self.ids += batch.ids
        self.labels += batch.labels
        self.names += batch.names
        self.sizes.append(batch.sizes)
        self.hashes.append(batch.hashes)
        self.rejects += batch.rejects
        self.repairs += batch.repairs

    def resolve_duplicates(self) -> NDArray[np.int64]:
        """Indices [K] of the rows to keep, ordered by sample_id. The other rows are added to `rejects`."""
        kept = []
        order = sorted(range(len(self.ids)), key=lambda i: (self.ids[i], self.names[i]))
        for _, same in groupby(order, key=self.ids.__getitem__):
            first, *others = same
            if all(self.labels[i] == self.labels[first] for i in others):
                kept.append(first)
                self.rejects += [self._reject(i, Reason.DUPLICATE, f"of {self.names[first]}") for i in others]
                continue
            labels = sorted({self.labels[i] for i in (first, *others)})
            more = f" and {len(labels) - _LISTED_LABELS:,} more" if len(labels) > _LISTED_LABELS else ""
            detail = f"labelled {' and '.join(labels[:_LISTED_LABELS])}{more}"
            self.rejects += [self._reject(i, Reason.TWO_LABELS_SAME_PIXELS, detail) for i in (first, *others)]
        return np.array(kept, np.int64)

    def _reject(self, row: int, reason: Reason, detail: str) -> Reject:
        return Reject(self.names[row], self.labels[row], reason, detail)


@dataclass(frozen=True)
class Cleaned:
    """The images of a raw file that passed all checks.

    kept: indices [K] into `rows`, ordered by sample_id. spool: the pixels of all `rows`, one after the other. read: the
    number of images in the raw file and of those that have no label. counts: the number of rejects by reason. dropped:
    their share of the images, without duplicates.
    """

    info: RawInfo
    rows: Rows
    kept: NDArray[np.int64]
    spool: IO[bytes]
    read: int
    counts: Counter[str]
    dropped: float

    def figures(self, folds: NDArray[np.int8], groups: NDArray[np.int64]) -> dict[str, Any]:
        """The figures to publish. folds, groups: [K], of the kept images; groups are of near-duplicates."""
        sizes = Counter(f"{width}x{height}" for width, height in np.concatenate(self.rows.sizes)[self.kept].tolist())
        group_sizes = np.bincount(groups)
        return {
            "dataset": self.info.dataset,
            "source": self.info.source,
            "version": self.info.version,
            **({"label_rule": self.info.rule} if self.info.rule else {}),
            "images_available": self.info.available,
            "images_read": self.read,
            "kept": len(self.kept),
            "rejected": {str(reason): number for reason, number in self.counts.items()},
            "rejected_share": round(self.dropped, 6),
            "read_though": {str(repair): number for repair, number in sorted(self.rows.repairs.items())},
            "skipped_files": dict(self.info.skipped),
            "folds": {str(fold): int(number) for fold, number in enumerate(np.bincount(folds))},
            "near_duplicates": {
                "groups": int((group_sizes > 1).sum()),
                "images": int(group_sizes[group_sizes > 1].sum()),
                "largest_group": int(group_sizes.max()),
            },
            # By count, then by size, so that the order of equal counts is defined.
            "source_sizes": dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_LISTED_SIZES]),
        }


@contextmanager
def clean_images(
    dataset: Dataset, source: Path, params: NormalizeParams, rejects: Path, folder: Path, workers: int | None
) -> Iterator[Cleaned]:
    """Decode and check the images of the raw file `source`, and write the list `rejects`.

    Pixels are kept in an unnamed file in `folder`, so memory holds a few row groups and a few hundred bytes per image.
    Raises InputError if too many images are rejected or none is kept; the list is written in both cases.
    """
    info = read_info(source)
    if (info.dataset, info.version) != (dataset.key, dataset.version):
        raise InputError(
            f"{source}: holds {info.dataset} version {info.version}, not {dataset.key} version "
            f"{dataset.version}; run `dvc repro --force {stage_name('ingest', dataset.key)}`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as spool:
        rows = Rows(rejects=[Reject(reject.path, "", reject.reason, reject.detail) for reject in info.rejects])
        file = pq.ParquetFile(source)
        groups = range(file.num_row_groups)
        work = Normalizer(source, dataset, params)
        for batch in tracked(ordered(work, groups, workers), len(groups), f"normalise {dataset.key}"):
            rows.add(batch)
            spool.write(batch.pixels.data)
        spool.flush()
        kept = rows.resolve_duplicates()
        write_rejects(rejects, rows.rejects)
        read = file.metadata.num_rows + sum(reject.reason not in WITHOUT_IMAGE for reject in info.rejects)
        counts = Counter(reject.reason for reject in rows.rejects)
        dropped = _check_dropped(dataset, counts, len(kept), read, params.max_rejected, rejects)
        yield Cleaned(info, rows, kept, spool, read, counts, dropped)


def _check_dropped(dataset: Dataset, counts: Counter[str], kept: int, read: int, limit: float, rejects: Path) -> float:
    """The share of rejected images, without duplicates. Raises InputError if it is above `limit`."""
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common())
    if not kept:
        raise InputError(f"{dataset.key}: no image of {read} is fit to keep ({reasons}); see {rejects}")
    dropped = (read - kept - counts[Reason.DUPLICATE]) / read
    if dropped > limit:
        raise InputError(
            f"{dataset.key}: {dropped:.1%} of {read} images dropped ({reasons}), more than "
            f"normalize.max_rejected ({limit:.1%}) in params.yaml allows; see {rejects}, "
            "fix the source or raise the limit"
        )
    return dropped
