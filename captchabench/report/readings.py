"""Writers of the readings of files: as a table, CSV, JSON or Parquet. They stream, so any number of rows fits."""

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.inference.results import Prediction


class Format(StrEnum):
    """Output formats of readings."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Row:
    """One file: its prediction, or the reason why it has none. label: None if not requested, or if it has none."""

    file: Path
    prediction: Prediction | None
    error: str | None
    label: str | None


@dataclass(frozen=True)
class Columns:
    """The optional columns. alternatives: how many; 0 for none. text_width: longest text, in characters."""

    label: bool
    alternatives: int
    text_width: int


class Writer(ABC):
    """Writes rows to a stream of text, or of bytes for Parquet."""

    def __init__(self, stream: IO[Any], columns: Columns) -> None:
        self.stream = stream
        self.columns = columns

    @abstractmethod
    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what belongs at the end. The stream stays open."""
        self.stream.flush()


def shown(path: Path) -> str:
    """A path as one line of text: invalid and unprintable characters are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TableWriter(Writer):
    """Aligned columns. The file comes last, since its width is not known in advance. Errors are left out."""

    def __init__(self, stream: IO[str], columns: Columns) -> None:
        super().__init__(stream, columns)
        self._line("text", "confidence", "label", "alternatives", "file")

    def write(self, rows: Iterable[Row]) -> None:
        """See Writer.write."""
        for row in rows:
            if row.prediction is not None:
                read = row.prediction
                others = "  ".join(f"{a.text} {a.probability:.3f}" for a in read.alternatives)
                marked = "-" if row.label is None else f"{row.label} {'=' if row.label == read.text else '≠'}"
                self._line(read.text, f"{read.confidence:.3f}", marked, others, shown(row.file))

    def _line(self, text: str, confidence: str, label: str, alternatives: str, file: str) -> None:
        width = max(self.columns.text_width, 4)
        parts = [text.ljust(width), confidence.rjust(10)]
        if self.columns.label:
            parts.append(label.ljust(width + 2))
        if self.columns.alternatives:
            parts.append(alternatives.ljust(self.columns.alternatives * (width + 8) - 2))
        self.stream.write("  ".join([*parts, file]) + "\n")


class CsvWriter(Writer):
    """A header and one line per file. Alternatives are pairs of columns: text_1, probability_1 and so on."""

    def __init__(self, stream: IO[str], columns: Columns) -> None:
        super().__init__(stream, columns)
        pairs = [f"{name}_{i + 1}" for i in range(columns.alternatives) for name in ("text", "probability")]
        names = ["file", "text", "confidence", *(["label"] if columns.label else []), *pairs, "error"]
        self._table = csv.DictWriter(stream, names, restval="", lineterminator="\n")
        self._table.writeheader()

    def write(self, rows: Iterable[Row]) -> None:
        """See Writer.write."""
        for row in rows:
            values = _values(row, self.columns)
            for i, other in enumerate(values.pop("alternatives", [])):
                values |= {f"text_{i + 1}": other["text"], f"probability_{i + 1}": other["probability"]}
            self._table.writerow(values)


class JsonWriter(Writer):
    """An array with one object per file, each on its own line."""

    def __init__(self, stream: IO[str], columns: Columns) -> None:
        super().__init__(stream, columns)
        self._before = "[\n"

    def write(self, rows: Iterable[Row]) -> None:
        """See Writer.write."""
        for row in rows:
            self.stream.write(self._before + json.dumps(_values(row, self.columns), ensure_ascii=False))
            self._before = ",\n"

    def close(self) -> None:
        """See Writer.close."""
        self.stream.write("[]\n" if self._before == "[\n" else "\n]\n")


class ParquetWriter(Writer):
    """One row group per batch. Alternatives are a list of structs."""

    def __init__(self, stream: IO[bytes], columns: Columns) -> None:
        super().__init__(stream, columns)
        fields = [("file", pa.string()), ("text", pa.string()), ("confidence", pa.float32())]
        if columns.label:
            fields.append(("label", pa.string()))
        if columns.alternatives:
            one = pa.struct([("text", pa.string()), ("probability", pa.float32())])
            fields.append(("alternatives", pa.list_(one)))
        self._schema = pa.schema([*fields, ("error", pa.string())])
        self._writer = pq.ParquetWriter(stream, self._schema, compression="zstd")

    def write(self, rows: Iterable[Row]) -> None:
        """See Writer.write."""
        self._writer.write_table(pa.Table.from_pylist([_values(row, self.columns) for row in rows], self._schema))

    def close(self) -> None:
        """See Writer.close."""
        self._writer.close()


_WRITERS: dict[Format, type[Writer]] = {
    Format.TABLE: TableWriter,
    Format.CSV: CsvWriter,
    Format.JSON: JsonWriter,
    Format.PARQUET: ParquetWriter,
}


@contextmanager
def writer(format: Format, stream: IO[Any], columns: Columns) -> Iterator[Writer]:
    """A writer of `format` to `stream`: binary for Parquet, text for the others. Closed unless an error is raised."""
    opened = _WRITERS[format](stream, columns)
    yield opened
    opened.close()


def _values(row: Row, columns: Columns) -> dict[str, Any]:
    values: dict[str, Any] = {"file": shown(row.file)}
    if row.prediction is not None:
        values |= {"text": row.prediction.text, "confidence": _rounded(row.prediction.confidence)}
        if columns.alternatives:
            values["alternatives"] = [
                {"text": other.text, "probability": _rounded(other.probability)}
                for other in row.prediction.alternatives
            ]
    if columns.label:
        values["label"] = row.label
    if row.error is not None:
        values["error"] = row.error
    return values


def _rounded(probability: float) -> float:
    return float(f"{probability:.6g}")
