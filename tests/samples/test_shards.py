"""Reading shards: into memory, or into a file if they do not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from captchabench.errors import InputError
from captchabench.samples import shards
from captchabench.samples.shards import (
    Samples,
    read_batches,
    read_names,
    read_samples,
    read_union,
    schema,
    write_shards,
)


def write(folder: Path, samples: Samples, rows_per_file: int = 7) -> None:
    columns = {
        "sample_id": list(samples.sample_ids),
        "label": list(samples.labels),
        "fold": samples.folds,
        "pixels": [image.tobytes() for image in samples.pixels],
        "name": list(samples.sample_ids),
    }
    batch = pa.RecordBatch.from_pydict(columns, schema=schema(samples.info))
    write_shards(folder, samples.info, [batch], rows_per_file)


@pytest.mark.parametrize("free", [10**12, 1000])
def test_samples_are_the_same_in_memory_and_in_a_file(
    tmp_path: Path, make_samples: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    samples = make_samples(20)
    write(tmp_path / "written", samples)
    monkeypatch.setattr(shards, "_free_memory", lambda: free)
    read = read_samples(tmp_path / "written")
    assert isinstance(read.pixels, np.memmap) == (free == 1000)
    assert np.array_equal(read.pixels, samples.pixels)
    assert list(read.labels) == list(samples.labels)
    odd = read.where(read.folds % 2 == 1)
    assert isinstance(odd.pixels, np.memmap) == (free == 1000)
    assert np.array_equal(odd.pixels, samples.pixels[samples.folds % 2 == 1])
    twice = read_union([tmp_path / "written", tmp_path / "written"], "union")
    assert np.array_equal(twice.pixels, samples.pixels.repeat(2, axis=0))
    assert list(twice.sample_ids) == sorted(twice.sample_ids)


def test_a_part_that_is_no_parquet_file_is_one_clear_line(tmp_path: Path, make_samples: Callable[..., Samples]) -> None:
    write(tmp_path / "written", make_samples(20))
    (tmp_path / "written" / "part-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match=r"part-00001\.parquet: is damaged .*dvc repro -f -s normalize@written"):
        read_samples(tmp_path / "written")


def test_a_flipped_bit_anywhere_is_detected(tmp_path: Path, make_samples: Callable[..., Samples]) -> None:
    folder = tmp_path / "written"
    write(folder, make_samples(20))
    part = folder / "part-00001.parquet"
    sound = part.read_bytes()
    for position in range(0, len(sound), len(sound) // 40):
        part.write_bytes(sound[:position] + bytes([sound[position] ^ 1 << position % 8]) + sound[position + 1 :])
        with pytest.raises(InputError, match=r"part-00001\.parquet: is damaged .*dvc repro -f -s normalize@written"):
            read_samples(folder)
        with pytest.raises(InputError, match="is damaged"):
            list(read_batches(part))
        with pytest.raises(InputError, match="is damaged"):
            read_names(folder)
