"""The encoded image of each sample: the original file, or for grids the assembled image that models read."""

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.errors import InputError
from captchabench.samples.raw import read_info as check_raw
from captchabench.samples.shards import ShardInfo

# Row groups of raw images in the cache: some megabytes each.
_CACHED_GROUPS = 8
# Shard parts in the cache: 64 MiB each.
_CACHED_PARTS = 2


class Pictures(Protocol):
    """A source of the images of a dataset."""

    def image(self, sample_id: str) -> bytes:
        """One image, encoded. Raises KeyError if there is none, InputError if its file is damaged."""


class RawImages:
    """The original images in a raw file. names: the image's name in that file, by sample_id."""

    def __init__(self, raw: Path, names: dict[str, str]) -> None:
        # Checked once and not for each image, since the check reads the whole file.
        check_raw(raw)
        self._raw = raw
        self._names = names
        self._rows: dict[str, tuple[int, int]] = {}
        with pq.ParquetFile(raw) as file:
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=["image.path"])["image"].combine_chunks()
                for row, path in enumerate(column.field("path").to_pylist()):
                    self._rows[path] = (group, row)
        self._group = lru_cache(maxsize=_CACHED_GROUPS)(self._read_group)

    def image(self, sample_id: str) -> bytes:
        """See Pictures."""
        group, row = self._rows[self._names[sample_id]]
        encoded: bytes = self._group(group)[row].as_py()
        return encoded

    def _read_group(self, group: int) -> pa.Array:
        try:
            with pq.ParquetFile(self._raw) as file:
                column = file.read_row_group(group, columns=["image.bytes"])["image"]
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._raw}: is damaged ({error}); run `dvc repro`") from None
        return column.combine_chunks().field("bytes")


class GridImages:
    """The grids of a shard folder as PNG, as models read them: the raw file has only their tiles, one file each.

    parts: the part files, already checked. ids: the sample_ids of each part, in row order.
    """

    def __init__(self, info: ShardInfo, parts: list[Path], ids: list[list[str]]) -> None:
        self._shape = (info.height, info.width)
        self._rows = {
            sample_id: (part, row)
            for part, part_ids in zip(parts, ids, strict=True)
            for row, sample_id in enumerate(part_ids)
        }
        self._part = lru_cache(maxsize=_CACHED_PARTS)(self._read_part)

    def image(self, sample_id: str) -> bytes:
        """See Pictures."""
        part, row = self._rows[sample_id]
        pixels = np.frombuffer(self._part(part)[row].as_py(), np.uint8).reshape(self._shape)
        done, encoded = cv2.imencode(".png", pixels)
        assert done, "OpenCV writes PNG"
        return encoded.tobytes()

    def _read_part(self, part: Path) -> pa.ChunkedArray:
        try:
            with pq.ParquetFile(part) as file:
                return file.read(columns=["pixels"])["pixels"]
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{part}: is damaged ({error}); run `dvc repro`") from None
