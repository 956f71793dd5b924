"""Images and labels in Parquet files, as Hugging Face's `datasets` writes them."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.alphabet import nfc
from captchabench.errors import InputError, first_line, visible
from captchabench.samples.raw import Entry
from captchabench.sources.archives import MAX_MEMBER_BYTES, Archive, Member

PARQUET = ".parquet"
_IMAGE_NAMES = ("image", "img", "picture", "captcha", "bytes", "data")
_ROWS_AT_ONCE = 64


class ParquetImages(Archive):
    """The rows of Parquet files with a column of images: bytes, or a struct of `bytes` and `path`.

    members: one per row; without a path it is named after the file and the row. columns: the texts of every other
    column of texts, integers or class labels, one per row.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        super().__init__(path)
        self.columns: dict[str, list[str]] = {}
        self._parts: list[tuple[Path, str]] = []
        for file in files:
            try:
                self._list(file)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(file, error) from None

    def read(self, members: Collection[Member]) -> Iterator[Entry]:
        chosen = {member.position: member for member in members}
        position = 0
        for file, column in self._parts:
            try:
                for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE, columns=[column]):
                    images = batch.column(0)
                    encoded = images.field("bytes") if pa.types.is_struct(images.type) else images
                    for value in encoded:
                        if position in chosen:
                            yield self._entry(chosen[position], value.as_py())
                        position += 1
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(file, error) from None

    def _list(self, file: Path) -> None:
        opened = pq.ParquetFile(file)
        schema = opened.schema_arrow
        image = _image_column(file, schema)
        self._parts.append((file, image))
        texts = {field.name: field for field in schema if field.name != image and _is_text(field.type)}
        paths = [f"{image}.path"] if pa.types.is_struct(schema.field(image).type) else []
        table = opened.read(columns=[*texts, *paths])
        rows = table.num_rows if table.num_columns else opened.metadata.num_rows
        start = len(self.members)
        named = table[image].combine_chunks().field("path").to_pylist() if paths else [None] * rows
        for row, name in enumerate(named):
            place = visible(name.replace("\\", "/")) if name else f"{file.name}#{row}"
            self.members.append(Member(place, start + row))
        for name in texts.keys() | self.columns.keys():
            earlier = self.columns.setdefault(name, [""] * start)
            earlier += _texts(table[name], _class_names(schema, name)) if name in texts else [""] * rows

    def _entry(self, member: Member, encoded: bytes | None) -> Entry:
        if encoded is None:
            raise self._refusal(f"'{member.path}' has a path but no bytes", "embed the images in the Parquet file")
        if len(encoded) > MAX_MEMBER_BYTES:
            raise self._refusal(f"holds '{member.path}', which is larger than {MAX_MEMBER_BYTES >> 20} MiB")
        return Entry(member.path, encoded)

    def _damaged(self, file: Path, error: Exception) -> InputError:
        return InputError(f"{file}: is no Parquet file, or is damaged ({first_line(error)}); download it again")


def _image_column(file: Path, schema: pa.Schema) -> str:
    """The only column that can hold encoded images, or the only one with the name of such a column."""
    found: list[str] = [field.name for field in schema if _is_image(field.type)]
    named = [name for name in found if name.lower() in _IMAGE_NAMES]
    if len(found) == 1 or len(named) == 1:
        return (named or found)[0]
    if not found:
        raise InputError(f"{file}: no column holds the bytes of images; expected `image` with bytes, or bytes and path")
    raise InputError(f"{file}: the columns {', '.join(found)} can all be the images; name one of them `image`")


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {field.name for field in kind}
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _texts(column: pa.ChunkedArray, classes: Sequence[str]) -> list[str]:
    """The values as texts, NFC, with "" for null, and with the names of class ids."""
    values: list[Any] = column.to_pylist()
    if classes:
        return [nfc(classes[v]) if isinstance(v, int) and 0 <= v < len(classes) else "" for v in values]
    return ["" if value is None else nfc(str(value)) for value in values]


def _class_names(schema: pa.Schema, column: str) -> list[str]:
    """The names of a column of `datasets.ClassLabel`; empty for any other column."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[column]
        return list(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else []
    except (KeyError, TypeError, ValueError):
        return []
