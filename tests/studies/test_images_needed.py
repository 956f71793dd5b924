"""Exact match against training images: the parts, the table and the trainings behind it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from captchabench.errors import InputError
from captchabench.samples.shards import Samples
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import wilson
from captchabench.studies import images_needed as study

PARAMS = """
data: {source: standin, downloads: d, seed: 0}
normalize: {height: 32, width: 100, resize: stretch, clahe: false, max_rejected: 0.02}
tiles: {source: standin, height: 96, width: 96, seed: 0}
folds: {count: 2}
datasets: {numbers6: {images: 60, difficulty: 1}}
matrix: {datasets: [numbers6], models: [dummy], union: [], tiles: {datasets: [], models: []}, folds: [0, 1]}
training: {seed: 0, validation_share: 0.2}
probe: {images: 10}
models: {dummy: {}}
"""


def test_a_part_holds_the_smaller_ones_and_both_kinds_of_samples(make_samples: Callable[..., Samples]) -> None:
    samples = make_samples(100)
    train, validation = samples.where(np.arange(90)), samples.where(np.arange(90, 100))
    smaller: set[str] = set()
    for size in (2, 10, 40, 99):
        parts = study.part(train, validation, size)
        assert sum(map(len, parts)) == size
        assert len(parts[1]) == max(1, round(size / 10))
        ids = {sample_id for each in parts for sample_id in each.sample_ids}
        assert smaller < ids
        assert not set(parts[0].sample_ids) - set(train.sample_ids)
        smaller = ids


def test_only_smaller_sizes_are_trained_on() -> None:
    assert study.sizes_below(856) == [100, 300]
    assert study.sizes_below(300) == [100]
    assert study.sizes_below(4000) == [100, 300, 1000, 3000]


def test_a_row_pools_the_folds() -> None:
    counts = [Counts.of(["12", "34"], read, np.ones(2), None) for read in (["12", "34"], ["12", "3"])]
    row = study.row("numbers6", "crnn", "ab", [855, 858], counts)
    assert list(row) == study.SCHEMA.names()
    assert (row["images"], row["folds"], row["n"], row["exact"], row["cer"]) == (856, 2, 4, 0.75, 1 / 8)
    assert (row["exact_lo"], row["exact_hi"]) == wilson(3, 4)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run called `small`: two folds of 60 images."""
    from stages import ingest, normalize, predict, train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "SIZES", (10, 20, 1000))
    Path("params.yaml").write_text(PARAMS)
    Path("results").mkdir()
    Path("results/small.yaml").write_text("# Sixty images.\n")
    ingest.main("numbers6")
    normalize.main("numbers6")
    for fold in ("0", "1"):
        train.main("numbers6", "dummy", fold)
        predict.main("numbers6", "dummy", fold)
    return tmp_path


def test_the_stage_trains_on_what_is_missing_and_writes_the_table(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from captchabench.config import read_yaml
    from stages import images_needed

    images_needed.main("small")
    assert capsys.readouterr().out.count("held-out images exact") == 4
    path = Path("results/small.images.csv")
    table = pl.read_csv(path, schema_overrides=study.SCHEMA)
    assert table["images"].to_list() == [10, 20, 30]
    assert table["n"].to_list() == [60] * 3
    assert study.current(table, read_yaml(Path("params.yaml"))).equals(table)
    written = path.read_bytes()
    # A second run trains nothing, and a killed one continues.
    images_needed.main("small", "numbers6", "dummy")
    assert "held-out" not in capsys.readouterr().out
    next(Path("data/images_needed").rglob("numbers6-dummy-1.*/20.parquet")).unlink()
    images_needed.main("small")
    assert capsys.readouterr().out.count("held-out images exact") == 1
    assert path.read_bytes() == written
    # With other parameters, what was measured is not shown.
    assert study.current(table, read_yaml(Path("params.yaml")) | {"folds": {"count": 3}}).is_empty()


def test_a_run_of_other_parameters_or_images_is_refused(project: Path) -> None:
    from stages import images_needed, normalize

    with pytest.raises(InputError, match=r"results/smal\.yaml: missing"):
        images_needed.main("smal")
    Path("params.yaml").write_text(PARAMS.replace("height: 32, width: 100", "height: 32, width: 104"))
    normalize.main("numbers6")
    with pytest.raises(InputError, match=r"numbers6-dummy-0\.parquet: is of other parameters or images"):
        images_needed.main("small")
    Path("params.yaml").write_text(PARAMS.replace("folds: {count: 2}", "folds: {count: 3}"))
    normalize.main("numbers6")
    with pytest.raises(InputError, match=r"numbers6-dummy-0\.parquet: is of other parameters or images"):
        images_needed.main("small")
