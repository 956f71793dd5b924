"""The names of images by sample_id."""

from pathlib import Path

import pyarrow as pa
import pytest

from captchabench.errors import InputError
from captchabench.samples.shards import ShardInfo, read_names, schema, write_shards


def test_all_parts_are_read_and_damage_is_one_clear_line(tmp_path: Path) -> None:
    info = ShardInfo("a", "archive", 1, 2, 3, "AB", 1, 1)
    columns = [["x", "y", "z"], ["A"] * 3, [0] * 3, [b"\0" * 6] * 3, ["1.png", "in/2.png", "3.png"]]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema(info), strict=True)]
    write_shards(tmp_path / "a", info, [pa.record_batch(arrays, schema=schema(info))], 2)
    assert read_names(tmp_path / "a") == {"x": "1.png", "y": "in/2.png", "z": "3.png"}
    (tmp_path / "a/part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-00001\.parquet: is damaged .*run `dvc repro -f -s normalize@a`"):
        read_names(tmp_path / "a")
    with pytest.raises(InputError, match="holds no shards"):
        read_names(tmp_path / "b")
