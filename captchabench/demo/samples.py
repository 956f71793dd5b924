"""The images whose labels are known: those of the shards as they came, and those that models read wrong."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import editdistance
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from captchabench.errors import InputError
from captchabench.predictions.held_out import read_predictions
from captchabench.samples.shards import sound_files

# Row groups of raw images kept: some megabytes each.
_KEPT = 8


@dataclass(frozen=True)
class Known:
    """One sample: where its image is, and what it says."""

    sample_id: str
    dataset: str
    label: str
    fold: int
    name: str


@dataclass(frozen=True)
class Error:
    """One sample that a model read wrong, `edits` away from its label."""

    sample: Known
    prediction: str
    confidence: float
    edits: int


class Library:
    """The samples below a folder `data` as `dvc repro` fills it. What is read is kept until the program ends.

    Methods raise InputError where files are missing or damaged, KeyError for a dataset or sample that is not there.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._collection = lru_cache(maxsize=None)(self._read_collection)
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
        """The encoded image of a sample, as it came."""
        return self._of(dataset).image(sample_id)

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
        return self._collection(dataset)

    def _read_collection(self, dataset: str) -> "_Collection":
        return _Collection(self._data, dataset)

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
    """One dataset: the table of its shards without the pixels, and where each image lies in the raw file."""

    def __init__(self, data: Path, dataset: str) -> None:
        self._raw = data / "raw" / f"{dataset}.parquet"
        columns = ["sample_id", "label", "fold", "name"]
        try:
            parts = [pq.read_table(path, columns=columns) for path in sound_files(data / "shards" / dataset)]
            rows = pa.concat_tables(parts).to_pylist()
            self._known = {row["sample_id"]: Known(dataset=dataset, **row) for row in rows}
            self._places = _places(self._raw)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(f"{dataset}: its images cannot be read ({error}); run `dvc repro`") from None
        self.folds = sorted({known.fold for known in self._known.values()})
        self._group = lru_cache(maxsize=_KEPT)(self._read_group)

    def in_fold(self, fold: int | None) -> list[Known]:
        return [known for known in self._known.values() if fold is None or known.fold == fold]

    def known(self, sample_id: str) -> Known:
        return self._known[sample_id]

    def image(self, sample_id: str) -> bytes:
        group, row = self._places[self._known[sample_id].name]
        encoded: bytes = self._group(group)[row].as_py()
        return encoded

    def _read_group(self, group: int) -> pa.Array:
        try:
            with pq.ParquetFile(self._raw) as file:
                column = file.read_row_group(group, columns=["image.bytes"])["image"]
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._raw}: is damaged ({error}); run `dvc repro`") from None
        return column.combine_chunks().field("bytes")


def _places(raw: Path) -> dict[str, tuple[int, int]]:
    """Row group and row of each image, by its path."""
    found = {}
    with pq.ParquetFile(raw) as file:
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=["image.path"])["image"].combine_chunks()
            for row, path in enumerate(column.field("path").to_pylist()):
                found[path] = (group, row)
    return found
