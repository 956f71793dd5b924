"""carry as DVC runs it, in a folder of its own."""

import csv
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captchabench.datasets import DATASETS
from captchabench.models import build_recogniser
from captchabench.samples.shards import Samples
from stages import carry

PARAMS = """
data: {source: standin}
normalize: {}
folds: {count: 5}
datasets: {fournierp: {images: 60}, numbers6: {images: 60}}
matrix: {datasets: [fournierp, numbers6], models: [dummy], union: [dummy], folds: [0]}
training: {}
models: {dummy: {}}
"""
IMAGES = 60


@pytest.fixture
def project(tmp_path: Path, make_samples: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of numbers6, and dummies that always answer with the label of one of its images."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    rng = np.random.default_rng(0)
    drawings = [DATASETS["numbers6"].draw(rng) for _ in range(IMAGES)]
    archive = Path("data/downloads") / f"{DATASETS['numbers6'].slug}.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for drawing in drawings:
            file.writestr(f"{drawing.label}.{drawing.suffix}", drawing.encoded)
    samples = make_samples(10, lengths=(6, 6))
    samples = replace(samples, labels=np.full(10, drawings[0].label, object))
    for name in ("fournierp", "numbers6", "union"):
        model = build_recogniser("dummy", samples.info.spec, {})
        model.fit(samples, samples, seed=0)
        folder = Path("data/models") / f"{name}-dummy-0"
        folder.mkdir(parents=True)
        model.save(folder, samples.info, fold=0)
    return tmp_path


def rows() -> list[dict[str, str]]:
    with Path("metrics/carry.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_models_of_the_dataset_and_of_the_union_read_its_archive(project: Path) -> None:
    carry.main()
    found = rows()
    assert [(row["read"], row["source"], row["trained_on"], row["model"], row["fold"]) for row in found] == [
        ("numbers6", "archive", "numbers6", "dummy", "0"),
        ("numbers6", "archive", "union", "dummy", "0"),
    ]
    for row in found:
        assert row["n"] == str(IMAGES)
        assert float(row["exact"]) == pytest.approx(1 / IMAGES, abs=1e-6)


def test_there_is_nothing_to_compare_without_archives_or_without_stand_ins(project: Path) -> None:
    Path("params.yaml").write_text(PARAMS.replace("source: standin", "source: archive"))
    carry.main()
    assert rows() == []
    Path("params.yaml").write_text(PARAMS)
    (project / "data/downloads" / f"{DATASETS['numbers6'].slug}.zip").unlink()
    carry.main()
    assert rows() == []
