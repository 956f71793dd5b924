"""The raw format."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from captchabench.errors import InputError
from captchabench.samples import raw
from captchabench.samples.raw import Entry, RawInfo, read_info, write_raw

INFO = RawInfo("fake", "archive", 2, 5, {"hidden": 1})


def entries(count: int) -> list[Entry]:
    return [Entry(f"in/{n}.old.png", b"\x89PNG" + bytes([n])) for n in range(count)]


def test_rows_are_read_back_unchanged(tmp_path: Path) -> None:
    assert write_raw(tmp_path / "fake.parquet", INFO, entries(3)) == 3
    rows = pq.read_table(tmp_path / "fake.parquet").to_pylist()
    assert rows[2] == {"image": {"bytes": b"\x89PNG\x02", "path": "in/2.old.png"}, "label": "2.old"}
    assert read_info(tmp_path / "fake.parquet") == INFO


def test_the_metadata_declares_the_image_column_for_hugging_face(tmp_path: Path) -> None:
    write_raw(tmp_path / "fake.parquet", INFO, entries(1))
    metadata = json.loads(pq.read_schema(tmp_path / "fake.parquet").metadata[b"huggingface"])
    assert metadata["info"]["features"] == {
        "image": {"_type": "Image"},
        "label": {"_type": "Value", "dtype": "string"},
    }


def test_a_row_group_is_bounded_in_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "ROWS", 4)
    monkeypatch.setattr(raw, "BYTES", 100)
    images = [Entry("a.png", b"x")] * 9 + [Entry("b.png", b"x" * 101), Entry("c.png", b"x")]
    write_raw(tmp_path / "fake.parquet", INFO, images)
    file = pq.ParquetFile(tmp_path / "fake.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4, 4, 2, 1]


def test_compressed_images_are_not_compressed_again(tmp_path: Path) -> None:
    write_raw(tmp_path / "fake.parquet", INFO, entries(3))
    group = pq.ParquetFile(tmp_path / "fake.parquet").metadata.row_group(0)
    kinds = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert kinds == {"image.bytes": "UNCOMPRESSED", "image.path": "ZSTD", "label": "ZSTD"}


def test_a_source_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Entry]:
        yield from entries(3)
        raise InputError("cut off")

    with pytest.raises(InputError, match="cut off"):
        write_raw(tmp_path / "fake.parquet", INFO, broken())
    assert not list(tmp_path.iterdir())


def test_equal_images_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_raw(tmp_path / name, INFO, entries(5))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", [None, lambda p: p.write_bytes(b"PAR1"), lambda p: pq.write_table(table(), p)])
def test_a_missing_or_foreign_file_is_one_clear_line(tmp_path: Path, damage: Callable[[Path], None] | None) -> None:
    path = tmp_path / "fake.parquet"
    if damage:
        damage(path)
    with pytest.raises(InputError, match=r"fake\.parquet: is .*dvc repro .*ingest@fake"):
        read_info(path)


def table() -> object:
    import pyarrow as pa

    return pa.table({"x": [1]})


def test_a_flipped_bit_anywhere_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "fake.parquet"
    write_raw(path, INFO, [Entry(f"{n}.png", bytes([n]) * 50) for n in range(20)])
    sound = path.read_bytes()
    assert read_info(path) == INFO
    for position in range(0, len(sound), len(sound) // 50):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1 << position % 8]) + sound[position + 1 :])
        with pytest.raises(InputError, match=r"fake\.parquet: is damaged .*; run `dvc repro --force ingest@fake`"):
            read_info(path)
