"""Label files as rows of texts: CSV, TSV, JSON, JSONL, path<TAB>label, and one label per line."""

import csv
import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from captchabench.errors import InputError, visible
from captchabench.sources.archives import IMAGE_SUFFIXES

_DELIMITERS = "\t,;|"
_JSON_SUFFIXES = (".json", ".jsonl")
_SUFFIX = "|".join(sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES))
# A path with the suffix of an image, then spaces, then one word: a label file whose tabs were lost.
_SPACED = re.compile(rf"\S.*?\.(?:{_SUFFIX}) +\S+", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A label file. path: of the file in its set. header: the names of the columns; empty if the format has none.

    rows: all of the same width, NFC, without spaces around the cells. The first row of a CSV file can be its header.
    """

    path: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def folder(self) -> str:
        """The folder of the file, relative to the root of the set."""
        return posixpath.dirname(self.path)


def has_image_suffix(cell: str) -> bool:
    """Whether a cell ends like the name of an image."""
    return posixpath.splitext(cell)[1].lower() in IMAGE_SUFFIXES


def read_table(path: str, content: bytes, where: str) -> Table | None:
    """The rows of a label file, or None for a file of another kind, such as notes or settings.

    where: what messages call the file. Raises InputError if the file is damaged, or has spaces in place of tabs.
    """
    suffix = posixpath.splitext(path)[1].lower()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        if suffix == ".txt":
            return None
        raise InputError(f"{where}: is not UTF-8; save it again as UTF-8") from None
    if suffix in _JSON_SUFFIXES:
        return _from_json(path, text, where, lines=suffix == ".jsonl")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    delimiter = _delimiter(lines)
    if not delimiter or (delimiter != "\t" and suffix == ".tsv"):
        spaced = [line for line in lines if _SPACED.fullmatch(line.strip())]
        if 2 * len(spaced) > len(lines):
            example = visible(spaced[0].strip(), 60)
            raise InputError(f"{where}: has spaces where tabs belong ('{example}'); put a tab after each path")
    if not delimiter:
        return _table(path, (), ([line] for line in lines))
    if delimiter == "\t" and suffix == ".txt":
        return _table(path, (), ([_unquoted(cell) for cell in line.split("\t")] for line in lines))
    try:
        return _table(path, (), csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{where}: is no table that can be read ({error}); save it again as CSV") from None


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that occurs in most lines; empty if none occurs in half of them. Of equals the first wins."""
    counts = {delimiter: sum(delimiter in line for line in lines) for delimiter in _DELIMITERS}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    return best if 2 * counts[best] >= len(lines) else ""


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _table(path: str, header: Iterable[str], rows: Iterable[Sequence[str]]) -> Table | None:
    """A table with cells cleaned, and short rows filled up."""
    cleaned = [tuple(normalize("NFC", cell.strip()) for cell in row) for row in rows if any(row)]
    width = max(map(len, cleaned), default=0)
    filled = tuple(row + ("",) * (width - len(row)) for row in cleaned)
    return Table(path, tuple(header), filled) if filled else None


def _from_json(path: str, text: str, where: str, lines: bool) -> Table | None:
    """A list of objects or of lists, a mapping of names to labels or to objects; or one object or list a line."""
    value: Any
    try:
        value = [_parse(line) for line in text.splitlines() if line.strip()] if lines else _parse(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no {'JSONL' if lines else 'JSON'} ({error}); write it again") from None
    if isinstance(value, dict) and value:
        if all(isinstance(item, dict) for item in value.values()):
            value = [{"": name, **item} for name, item in value.items()]
        else:
            value = [[name, item] for name, item in value.items()]
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, dict) for item in value):
        header = list(dict.fromkeys(key for item in value for key in item))
        return _table(path, header, ([_cell(item.get(key)) for key in header] for item in value))
    if all(isinstance(item, list) for item in value):
        header = [str(column + 1) for column in range(max(map(len, value)))]
        return _table(path, header, ([_cell(cell) for cell in item] for item in value))
    return None


def _parse(text: str) -> Any:
    # Numbers stay as they are written.
    return json.loads(text, parse_int=str, parse_float=str)


def _cell(value: Any) -> str:
    """A text, or a number, which `_parse` left as text; empty for anything else."""
    return value if isinstance(value, str) else ""
