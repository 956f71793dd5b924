"""The images whose labels are known: those of the shards as they came, and those that models read wrong."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import editdistance
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from captchabench.demo.pictures import GridImages, Pictures, RawImages
from captchabench.errors import InputError
from captchabench.predictions.held_out import read_predictions
from captchabench.samples.shards import read_info, sound_files


@dataclass(frozen=True)
class Known:
    """One sample: what its image says."""

    sample_id: str
    dataset: str
    label: str
    fold: int


@dataclass(frozen=True)
class Error:
    """One sample that a model read wrong, `edits` away from its label."""

    sample: Known
    prediction: str
    confidence: float
    edits: int


class Library:
    """The samples below a folder `data` as `dvc repro` fills it.

    A dataset is kept until one of its files changes, the errors of a cell until the program ends.

    Methods raise InputError where files are missing or damaged, KeyError for a dataset or sample that is not there.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._shelves: dict[str, _Shelf] = {}
        self._errors = lru_cache(maxsize=64)(self._read_errors)

    @cached_property
    def datasets(self) -> list[str]:
        """The datasets that have shards and raw images, sorted."""
        found = sorted(path.stem for path in (self._data / "raw").glob("*.parquet"))
        return [dataset for dataset in found if any((self._data / "shards" / dataset).glob("*.parquet"))]

    def folds(self, dataset: str) -> list[int]:
        """The folds of a dataset, ascending."""
        return self._of(dataset).folds

    def samples(self, dataset: str, fold: int | None, offset: int, limit: int) -> tuple[int, list[Known]]:
        """How many there are, in one fold or all, and those from `offset` on, `limit` at most."""
        found = self._of(dataset).in_fold(fold)
        return len(found), found[offset : offset + limit]

    def image(self, dataset: str, sample_id: str) -> bytes:
        """The encoded image of a sample: as it came, or of a grid as models read it."""
        return self._of(dataset).pictures.image(sample_id)

    def errors(self, cell: str, surest: bool, offset: int, limit: int) -> tuple[int, int, list[Error]]:
        """How many images a cell held out, how many of them it misread, and those from `offset` on, `limit` at most.

        First come those with the most edits, or the surest; a tie goes to the lower sample_id.
        """
        images, errors = self._errors(cell)
        by_edits = [(-e.edits, -e.confidence) for e in errors]
        keys = [key[::-1] for key in by_edits] if surest else by_edits
        order = sorted(range(len(errors)), key=lambda i: (keys[i], errors[i].sample.sample_id))
        return images, len(errors), [errors[i] for i in order[offset : offset + limit]]

    def _of(self, dataset: str) -> "_Collection":
        if dataset not in self.datasets:
            raise KeyError(dataset)
        return self._shelves.setdefault(dataset, _Shelf(self._data, dataset)).collection()

    def _read_errors(self, cell: str) -> tuple[int, list[Error]]:
        _, table = read_predictions(self._data / "predictions" / f"{cell}.parquet")
        wrong = table.filter(pc.not_equal(table["label"], table["prediction"]))
        errors = []
        for row in wrong.to_pylist():
            if row["dataset"] in self.datasets:
                sample = self._of(row["dataset"]).known(row["sample_id"])
                edits = editdistance.eval(row["label"], row["prediction"])
                errors.append(Error(sample, row["prediction"], row["confidence"], edits))
        return table.num_rows, errors


class _Collection:
    """One dataset: the table of its shards without the pixels, and its images."""

    def __init__(self, data: Path, dataset: str) -> None:
        raw, shards = data / "raw" / f"{dataset}.parquet", data / "shards" / dataset
        columns = ["sample_id", "label", "fold", "name"]
        try:
            files = sound_files(shards)
            info = read_info(shards)
            parts = [pq.read_table(path, columns=columns).to_pylist() for path in files]
            rows = list(chain.from_iterable(parts))
            self._known = {row["sample_id"]: _known(dataset, row) for row in rows}
            self.pictures: Pictures
            if info.task == "grid":
                self.pictures = GridImages(info, files, [[row["sample_id"] for row in part] for part in parts])
            else:
                self.pictures = RawImages(raw, {row["sample_id"]: row["name"] for row in rows})
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(f"{dataset}: its images cannot be read ({error}); run `dvc repro`") from None
        self.folds = sorted({known.fold for known in self._known.values()})

    def in_fold(self, fold: int | None) -> list[Known]:
        return [known for known in self._known.values() if fold is None or known.fold == fold]

    def known(self, sample_id: str) -> Known:
        return self._known[sample_id]


def _known(dataset: str, row: dict[str, Any]) -> Known:
    return Known(row["sample_id"], dataset, row["label"], row["fold"])


class _Shelf:
    """A dataset as it was last read. What was read, or why it could not be, holds until one of its files changes."""

    def __init__(self, data: Path, dataset: str) -> None:
        self._data = data
        self._dataset = dataset
        # A page asks for two dozen pictures at once: one of them reads, the others wait.
        self._lock = Lock()
        self._stamp: list[Stamp] | None = None
        self._read: _Collection | InputError | None = None

    def collection(self) -> _Collection:
        """Raises InputError where files are missing or damaged."""
        with self._lock:
            stamp = [_stamp(path) for path in self._files()]
            if self._read is None or stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._read = _Collection(self._data, self._dataset)
                except InputError as error:
                    self._read = error
            if isinstance(self._read, InputError):
                raise InputError(str(self._read))
            return self._read

    def _files(self) -> list[Path]:
        shards = self._data / "shards" / self._dataset
        return [self._data / "raw" / f"{self._dataset}.parquet", *sorted(shards.glob("*.parquet"))]


# Inode, bytes, nanoseconds of the last change.
Stamp: TypeAlias = tuple[int, int, int]


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
