"""The shards format: grey images of one size with checked labels, ready to become one tensor.

A dataset's shards are Parquet files `data/shards/D/part-00000.parquet`, ... sorted by `sample_id` over all parts.
`pixels` is fixed-size binary, row-major grey uint8, so reading decodes no image. Each part contains a checksum, which
is checked before the part is read.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet, merge
from captchabench.datasets import stage_name
from captchabench.datasets.base import ROWS, Task
from captchabench.errors import InputError
from captchabench.pool import cores
from captchabench.storage.checksum import UNSEALED, check_sealed, seal
from captchabench.storage.files import replacing_folder

METADATA_KEY = b"captchabench"
CHECKSUM_KEY = b"captchabench.checksum"

# N texts: a list, or an array of str objects.
Labels = Sequence[str] | NDArray[np.object_]
# A mask of N rows, or indices of rows.
Chosen = NDArray[np.bool_] | NDArray[np.int64]
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class TextSpec:
    """What a recogniser has to read: images of `height` x `width` pixels, texts over `alphabet`.

    rows: the rows of symbols in an image, read from top to bottom. A text has one; a grid has three, with one symbol
    per tile.
    """

    alphabet: Alphabet
    min_length: int
    max_length: int
    height: int
    width: int
    rows: int = 1

    @property
    def columns(self) -> int:
        """The largest number of symbols in a row."""
        return self.max_length // self.rows


@dataclass(frozen=True)
class ShardInfo:
    """The description of a shard, stored in its schema metadata.

    resize, clahe: how its images were normalised. class_names: the classes that the symbols of `alphabet` stand for, in
    its order; empty if they are characters.
    """

    dataset: str
    source: str
    version: int
    height: int
    width: int
    alphabet: str
    min_length: int
    max_length: int
    resize: Literal["stretch", "pad"] = "stretch"
    clahe: bool = False
    task: Task = "text"
    class_names: tuple[str, ...] = ()

    @property
    def spec(self) -> TextSpec:
        """The part that a recogniser needs to know."""
        rows = ROWS if self.task == "grid" else 1
        return TextSpec(Alphabet(self.alphabet), self.min_length, self.max_length, self.height, self.width, rows)


@dataclass(frozen=True)
class Samples:
    """Labelled images in memory.

    pixels: [N, H, W]. folds: [N]. sample_ids, labels, datasets: N strings each. `datasets` is the dataset of each
    sample; in `union` there are several.
    """

    info: ShardInfo
    sample_ids: NDArray[np.object_]
    labels: NDArray[np.object_]
    folds: NDArray[np.int8]
    datasets: NDArray[np.object_]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: Chosen) -> "Samples":
        """The samples chosen by a mask [N] or by indices."""
        return Samples(
            self.info,
            self.sample_ids[chosen],
            self.labels[chosen],
            self.folds[chosen],
            self.datasets[chosen],
            _take(self.pixels, chosen),
        )


def schema(info: ShardInfo) -> pa.Schema:
    """The Arrow schema of a shard, with `info` in its metadata."""
    return pa.schema(
        [
            ("sample_id", pa.string()),
            ("label", pa.string()),
            ("fold", pa.int8()),
            ("pixels", pa.binary(info.height * info.width)),
            ("name", pa.string()),
        ],
        metadata=unsealed_metadata(json.dumps(asdict(info), sort_keys=True)),
    )


def unsealed_metadata(description: str) -> dict[bytes, bytes]:
    """Schema metadata of a Parquet file: its `description` in JSON, and a placeholder for the checksum."""
    return {METADATA_KEY: description.encode(), CHECKSUM_KEY: UNSEALED.encode()}


def write_shards(folder: Path, info: ShardInfo, batches: Iterable[pa.RecordBatch], rows_per_file: int) -> int:
    """Write `batches` (of `schema(info)`, sorted by sample_id) as part files; return the number of rows.

    The folder is replaced as a whole. At most `rows_per_file` rows are held in memory.
    """
    total = 0
    with replacing_folder(folder) as temporary:
        pending: list[pa.RecordBatch] = []
        part = 0

        def flush() -> None:
            nonlocal part
            table = pa.Table.from_batches(pending, schema=schema(info))
            path = temporary / f"part-{part:05d}.parquet"
            pq.write_table(
                table,
                path,
                # Uncompressed pixels take 1.7 times the space of compressed ones and are read three times as fast.
                compression={name: "none" if name == "pixels" else "zstd" for name in table.column_names},
                # Few values of the other columns repeat, and building their dictionaries takes longer than writing.
                use_dictionary=["label", "fold"],
                write_statistics=["sample_id", "label", "fold"],
            )
            seal(path)
            part += 1
            pending.clear()

        for batch in batches:
            total += batch.num_rows
            start = 0
            while start < batch.num_rows:
                room = rows_per_file - sum(b.num_rows for b in pending)
                pending.append(batch.slice(start, room))
                start += room
                if sum(b.num_rows for b in pending) == rows_per_file:
                    flush()
        if pending or part == 0:
            flush()
    return total


def shard_files(folder: Path) -> list[Path]:
    """The part files of a dataset, in order. Raises InputError if there are none."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(f"{folder}: holds no shards; run `dvc repro {stage_name('normalize', folder.name)}`")
    return files


def verified_files(folder: Path) -> list[Path]:
    """Check the checksums of a dataset's part files and return the files, in order.

    Raises InputError if there are none or one is damaged.
    """
    files = shard_files(folder)
    # Reading and CRC-32 release the GIL, so threads use all cores.
    with ThreadPoolExecutor(min(cores(), len(files))) as pool:
        list(pool.map(_check, files))
    return files


def read_info(folder: Path) -> ShardInfo:
    """The description of the shards in `folder`; checksums are not checked.

    Raises InputError if there is no part, or if the first one cannot be read or is not a shard of this program.
    """
    path = shard_files(folder)[0]
    try:
        return _info_of(pq.read_schema(path), path, folder.name)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def read_samples(folder: Path) -> Samples:
    """All samples of one dataset, with their pixels in one contiguous array.

    Raises InputError if a part is damaged or not a shard of this program.
    """
    files = verified_files(folder)
    path = files[0]
    try:
        info = _info_of(pq.read_schema(path), path, folder.name)
        count = 0
        for path in files:
            count += pq.read_metadata(path).num_rows
        pixels = _new_pixels((count, info.height, info.width))
        rest = []
        start = 0
        for path in files:
            table = pq.ParquetFile(path, memory_map=True).read()
            for chunk in table["pixels"].chunks:
                pixels[start : start + len(chunk)] = _pixels_of(chunk, info)
                start += len(chunk)
            rest.append(table.select(["sample_id", "label", "fold"]))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    columns = pa.concat_tables(rest)
    return Samples(
        info,
        columns["sample_id"].to_numpy(),
        columns["label"].to_numpy(),
        columns["fold"].to_numpy(),
        np.full(count, info.dataset, object),
        pixels,
    )


def read_batches(path: Path) -> Iterator[tuple[pa.RecordBatch, NDArray[np.uint8]]]:
    """One part file in batches, each with its pixels [n, H, W], for code that must not hold a whole dataset in memory.

    Raises InputError if the part is damaged or not a shard of this program.
    """
    try:
        _check(path)
        file = pq.ParquetFile(path)
        info = _info_of(file.schema_arrow, path, path.parent.name)
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            yield batch, _pixels_of(batch["pixels"], info)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def read_union(folders: Sequence[Path], name: str) -> Samples:
    """Several datasets as one with the name `name`, ordered by sample_id.

    Its alphabet is the union of theirs, and its label lengths span theirs. Its source names theirs. Raises InputError
    if sizes or ways of normalisation differ.
    """
    members = [read_samples(folder) for folder in folders]
    infos = [m.info for m in members]
    for trait in ("height", "width", "resize", "clahe"):
        values = {getattr(i, trait) for i in infos}
        if len(values) > 1:
            raise InputError(f"{name}: members differ in {trait} ({sorted(values)}); run `dvc repro`")
    info = ShardInfo(
        dataset=name,
        source="+".join(sorted({i.source for i in infos})),
        version=sum(i.version for i in infos),
        height=infos[0].height,
        width=infos[0].width,
        alphabet=merge([Alphabet(i.alphabet) for i in infos]).symbols,
        min_length=min(i.min_length for i in infos),
        max_length=max(i.max_length for i in infos),
        resize=infos[0].resize,
        clahe=infos[0].clahe,
    )
    sample_ids = np.concatenate([m.sample_ids for m in members])
    order = np.argsort(sample_ids, kind="stable")
    position = np.argsort(order)
    pixels = _new_pixels((len(order), info.height, info.width))
    start = 0
    for member in members:
        pixels[position[start : start + len(member)]] = member.pixels
        start += len(member)
    return Samples(
        info,
        sample_ids[order],
        np.concatenate([m.labels for m in members])[order],
        np.concatenate([m.folds for m in members])[order],
        np.concatenate([m.datasets for m in members])[order],
        pixels,
    )


def _new_pixels(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An uninitialised uint8 array: in memory if it takes at most half of the free memory, else in an unnamed file.

    So data larger than memory takes disk space and time, but works in the same way.
    """
    size = int(np.prod(shape))
    if size <= _free_memory() // 2:
        return np.empty(shape, np.uint8)
    with TemporaryFile(prefix="captchabench-") as file:
        file.truncate(max(size, 1))
        return np.memmap(file, np.uint8, mode="r+", shape=shape)


def _take(pixels: NDArray[np.uint8], chosen: Chosen) -> NDArray[np.uint8]:
    """`pixels[chosen]`, copied piece by piece if `pixels` are in a file."""
    if not isinstance(pixels, np.memmap):
        return pixels[chosen]
    rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    copy = _new_pixels((len(rows), *pixels.shape[1:]))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        copy[start : start + _ROWS_AT_ONCE] = pixels[rows[start : start + _ROWS_AT_ONCE]]
    return copy


def _free_memory() -> int:
    """Free memory in bytes."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _pixels_of(column: pa.Array, info: ShardInfo) -> NDArray[np.uint8]:
    """The images [n, H, W] of a `pixels` column, without a copy."""
    size = info.height * info.width
    flat = np.frombuffer(column.buffers()[1], np.uint8, len(column) * size, column.offset * size)
    return flat.reshape(-1, info.height, info.width)


def _check(path: Path) -> None:
    try:
        check_sealed(path, _fix(path.parent.name))
    except OSError as error:
        raise _damaged(path, error) from None


def _fix(dataset: str) -> str:
    # -f, since DVC may not notice damage that changes neither date nor size.
    return f"run `dvc repro -f -s {stage_name('normalize', dataset)}`"


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: is damaged ({error}); {_fix(path.parent.name)}")


def _info_of(stored: pa.Schema, path: Path, dataset: str) -> ShardInfo:
    description = (stored.metadata or {}).get(METADATA_KEY)
    if description is None:
        raise InputError(f"{path}: is not one of our shards; {_fix(dataset)}")
    values = json.loads(description)
    if values.keys() != {field.name for field in fields(ShardInfo)}:
        raise InputError(f"{path}: was written by another version of this program; {_fix(dataset)}")
    return ShardInfo(**values | {"class_names": tuple(values["class_names"])})


def tile_names(name: str) -> list[str]:
    """The names of a grid's tiles, row by row, given the name of the grid."""
    return [str(tile) for tile in json.loads(name)]


def read_names(folder: Path) -> dict[str, str]:
    """The name of each sample in `folder`, by sample_id. `tile_names` splits the name of a grid.

    Raises InputError if the shards are missing or damaged.
    """
    names: dict[str, str] = {}
    for path in verified_files(folder):
        try:
            table = pq.ParquetFile(path).read(["sample_id", "name"])
        except (pa.ArrowException, OSError) as error:
            stage = stage_name("normalize", folder.name)
            raise InputError(f"{path}: is damaged ({error}); run `dvc repro {stage}`") from None
        names.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return names
