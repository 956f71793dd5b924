"""What the images of a dataset were called where they came from."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.data.shards import sound_files
from captchabench.datasets import stage_name
from captchabench.errors import InputError


def tile_names(name: str) -> list[str]:
    """The names of a grid's tiles, row by row, from the name of the grid."""
    return [str(tile) for tile in json.loads(name)]


def read_names(folder: Path) -> dict[str, str]:
    """sample_id -> name of each sample of the shards in `folder`; `tile_names` takes a grid's apart.

    Raises InputError if the shards are missing or damaged.
    """
    names: dict[str, str] = {}
    for path in sound_files(folder):
        try:
            table = pq.ParquetFile(path).read(["sample_id", "name"])
        except (pa.ArrowException, OSError) as error:
            stage = stage_name("normalize", folder.name)
            raise InputError(f"{path}: is damaged ({error}); run `dvc repro {stage}`") from None
        names.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return names
