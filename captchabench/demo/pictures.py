"""The encoded image of each sample: the raw file as it came, or the grid that models read."""

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

# Row groups of raw images kept: some megabytes each.
_KEPT = 8
# Parts of shards kept: 64 MiB each.
_KEPT_PARTS = 2


class Pictures(Protocol):
    """Where the images of a dataset are."""

    def image(self, sample_id: str) -> bytes:
        """One image, encoded. Raises KeyError where there is none, InputError where its file is damaged."""


class RawImages:
    """The images of a raw file as they came. names: what each sample is called there, by its sample_id."""

    def __init__(self, raw: Path, names: dict[str, str]) -> None:
        # Here and not for each picture: it reads the whole file.
        check_raw(raw)
        self._raw = raw
        self._names = names
        self._places: dict[str, tuple[int, int]] = {}
        with pq.ParquetFile(raw) as file:
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=["image.path"])["image"].combine_chunks()
                for row, path in enumerate(column.field("path").to_pylist()):
                    self._places[path] = (group, row)
        self._group = lru_cache(maxsize=_KEPT)(self._read_group)

    def image(self, sample_id: str) -> bytes:
        """See Pictures."""
        group, row = self._places[self._names[sample_id]]
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
    """The grids of shards as models read them, as PNG: what came were their tiles, each a file of its own.

    parts: the part files, checked. ids: the sample_ids of each, in their order.
    """

    def __init__(self, info: ShardInfo, parts: list[Path], ids: list[list[str]]) -> None:
        self._shape = (info.height, info.width)
        self._places = {
            sample_id: (part, row)
            for part, found in zip(parts, ids, strict=True)
            for row, sample_id in enumerate(found)
        }
        self._part = lru_cache(maxsize=_KEPT_PARTS)(self._read_part)

    def image(self, sample_id: str) -> bytes:
        """See Pictures."""
        part, row = self._places[sample_id]
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
