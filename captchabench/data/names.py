"""What the images of a dataset were called where they came from."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.data.shards import shard_files
from captchabench.errors import InputError


def read_names(folder: Path) -> dict[str, str]:
    """sample_id -> name of each sample of the shards in `folder`. Raises InputError if they are missing or damaged."""
    names: dict[str, str] = {}
    for path in shard_files(folder):
        try:
            table = pq.read_table(path, columns=["sample_id", "name"])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: is damaged ({error}); run `dvc repro normalize@{folder.name}`") from None
        names.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return names
