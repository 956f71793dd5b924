"""The labelled images that the demo shows: the samples of each dataset, and those that a model misread."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import editdistance
import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.cells.cell import stage_of
from captchabench.demo.pictures import GridImages, Pictures, RawImages
from captchabench.errors import InputError
from captchabench.predictions.held_out import read_predictions
from captchabench.samples.shards import read_info, verified_files


@dataclass(frozen=True)
class LabelledSample:
    """One sample and its label."""

    sample_id: str
    dataset: str
    label: str
    fold: int


@dataclass(frozen=True)
class Error:
    """One sample that a model misread. edits: the edit distance between label and prediction."""

    sample: LabelledSample
    prediction: str
    confidence: float
    edits: int


class Library:
    """The samples in the folder `data` that `dvc repro` writes, its `folder`.

    A dataset is cached until one of its files changes, the errors of a cell until the program ends.

    Methods raise InputError if files are missing or damaged, KeyError for an unknown dataset or sample.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data
        self._caches: dict[str, _DatasetCache] = {}
        self._errors = lru_cache(maxsize=64)(self._read_errors)

    @cached_property
    def datasets(self) -> list[str]:
        """The datasets that have shards and raw images, sorted."""
        with_raw = sorted(path.stem for path in (self.folder / "raw").glob("*.parquet"))
        return [dataset for dataset in with_raw if any((self.folder / "shards" / dataset).glob("*.parquet"))]

    def folds(self, dataset: str) -> list[int]:
        """The folds of a dataset, ascending."""
        return self._of(dataset).folds

    def samples(self, dataset: str, fold: int | None, offset: int, limit: int) -> tuple[int, list[LabelledSample]]:
        """The number of samples, in one fold or all, and `limit` of them from `offset` on."""
        samples = self._of(dataset).in_fold(fold)
        return len(samples), samples[offset : offset + limit]

    def image(self, dataset: str, sample_id: str) -> bytes:
        """The encoded image of a sample: the original, or for a grid the assembled image that models read."""
        return self._of(dataset).pictures.image(sample_id)

    def errors(self, cell: str, surest: bool, offset: int, limit: int) -> tuple[int, int, list[Error]]:
        """The number of held-out images of a cell, the number misread, and `limit` of those from `offset` on.

        Sorted by edits, or by confidence if `surest`, largest first; ties by sample_id.
        """
        images, errors = self._errors(cell)
        by_edits = [(-e.edits, -e.confidence) for e in errors]
        keys = [key[::-1] for key in by_edits] if surest else by_edits
        order = sorted(range(len(errors)), key=lambda i: (keys[i], errors[i].sample.sample_id))
        return images, len(errors), [errors[i] for i in order[offset : offset + limit]]

    def _of(self, dataset: str) -> "_LoadedDataset":
        if dataset not in self.datasets:
            raise KeyError(dataset)
        return self._caches.setdefault(dataset, _DatasetCache(self.folder, dataset)).dataset()

    def _read_errors(self, cell: str) -> tuple[int, list[Error]]:
        path = self.folder / "predictions" / f"{cell}.parquet"
        _, table = read_predictions(path)
        members = {name: self._of(name) for name in table["dataset"].unique().to_pylist() if name in self.datasets}
        errors = []
        for row in table.to_pylist():
            if row["dataset"] not in members:
                continue
            sample = members[row["dataset"]].sample(row["sample_id"])
            if sample is None or (sample.label, sample.fold) != (row["label"], row["fold"]):
                again = f"run `dvc repro {stage_of('predict', cell)}`"
                raise InputError(f"{path}: was made before the shards of {row['dataset']} changed; {again}")
            if row["prediction"] != row["label"]:
                edits = editdistance.eval(row["label"], row["prediction"])
                errors.append(Error(sample, row["prediction"], row["confidence"], edits))
        return table.num_rows, errors


class _LoadedDataset:
    """One dataset: the columns of its shards except the pixels, and its images."""

    def __init__(self, data: Path, dataset: str) -> None:
        raw, shards = data / "raw" / f"{dataset}.parquet", data / "shards" / dataset
        columns = ["sample_id", "label", "fold", "name"]
        try:
            files = verified_files(shards)
            info = read_info(shards)
            parts = [pq.read_table(path, columns=columns).to_pylist() for path in files]
            rows = list(chain.from_iterable(parts))
            self._samples = {row["sample_id"]: _sample(dataset, row) for row in rows}
            self.pictures: Pictures
            if info.task == "grid":
                self.pictures = GridImages(info, files, [[row["sample_id"] for row in part] for part in parts])
            else:
                self.pictures = RawImages(raw, {row["sample_id"]: row["name"] for row in rows})
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(f"{dataset}: its images cannot be read ({error}); run `dvc repro`") from None
        self.folds = sorted({sample.fold for sample in self._samples.values()})

    def in_fold(self, fold: int | None) -> list[LabelledSample]:
        return [sample for sample in self._samples.values() if fold is None or sample.fold == fold]

    def sample(self, sample_id: str) -> LabelledSample | None:
        """One sample; None if there is none with that id."""
        return self._samples.get(sample_id)


def _sample(dataset: str, row: dict[str, Any]) -> LabelledSample:
    return LabelledSample(row["sample_id"], dataset, row["label"], row["fold"])


class _DatasetCache:
    """Caches a dataset, or the error of reading it, until one of its files changes."""

    def __init__(self, data: Path, name: str) -> None:
        self._data = data
        self._name = name
        # A page requests two dozen images at once: one request reads the dataset, the others wait.
        self._lock = Lock()
        self._stamp: list[Stamp] | None = None
        self._read: _LoadedDataset | InputError | None = None

    def dataset(self) -> _LoadedDataset:
        """The dataset. Raises InputError if files are missing or damaged."""
        with self._lock:
            stamp = [_stamp(path) for path in self._files()]
            if self._read is None or stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._read = _LoadedDataset(self._data, self._name)
                except InputError as error:
                    self._read = error
            if isinstance(self._read, InputError):
                raise InputError(str(self._read))
            return self._read

    def _files(self) -> list[Path]:
        shards = self._data / "shards" / self._name
        return [self._data / "raw" / f"{self._name}.parquet", *sorted(shards.glob("*.parquet"))]


# Inode, size in bytes, time of the last change in nanoseconds.
Stamp: TypeAlias = tuple[int, int, int]


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
