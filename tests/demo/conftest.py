"""Two small models with the files that `dvc repro` writes for them, and a demo of both."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from captchabench.alphabet import display_text
from captchabench.config import NormalizeParams, TileParams
from captchabench.datasets import DATASETS
from captchabench.demo.app import create_app
from captchabench.demo.limits import Batching, DemoLimits
from captchabench.demo.reading import Reader
from captchabench.demo.samples import Library
from captchabench.demo.serve import find_models
from captchabench.demo.service import Service
from captchabench.models import build_recogniser
from captchabench.normalize.tiles import normalize_tiles
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.raw import Entry, RawInfo, write_raw
from captchabench.samples.shards import Samples, read_samples, schema, write_shards

SVC, CRNN = "written-hog_svc-0", "written-crnn-0"


@dataclass(frozen=True)
class Trained:
    """A project folder. samples: the held-out fold. images: the same as PNG. texts: what each model, by name, reads."""

    folder: Path
    samples: Samples
    images: list[bytes]
    texts: dict[str, list[str]]

    @property
    def data(self) -> Path:
        return self.folder / "data"


@pytest.fixture(scope="session")
def trained(make_samples: Callable[..., Samples], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A hog_svc that reads most images and an untrained crnn, with raw images, shards and predictions."""
    folder = tmp_path_factory.mktemp("demo")
    data = folder / "data"
    samples = make_samples(200)
    info = samples.info
    names = [f"{label}-{row}.png" for row, label in enumerate(samples.labels)]
    pngs = [cv2.imencode(".png", pixels)[1].tobytes() for pixels in samples.pixels]
    entries = [Entry(name, png) for name, png in zip(names, pngs, strict=True)]
    write_raw(data / "raw" / "written.parquet", RawInfo("written", "standin", 1, len(samples), {}), entries)
    rows: list[Iterable[object]] = [
        samples.sample_ids,
        samples.labels,
        samples.folds,
        [p.tobytes() for p in samples.pixels],
        names,
    ]
    types = schema(info).types
    columns = [pa.array(list(values), kind) for values, kind in zip(rows, types, strict=True)]
    write_shards(data / "shards" / "written", info, [pa.record_batch(columns, schema=schema(info))], 1000)
    held = samples.where(samples.folds == 0)
    rest = samples.where(samples.folds != 0)
    texts = {}
    for name in (SVC, CRNN):
        _, model, fold = name.split("-")
        small = {"channels": [8, 8, 8], "hidden": 8, "stem_stride": 2}
        recogniser = build_recogniser(model, info.spec, small if name == CRNN else {})
        if name == SVC:
            recogniser.fit(rest, held, seed=0)
        model_folder = data / "models" / name
        model_folder.mkdir(parents=True)
        recogniser.save(model_folder, info, int(fold))
        reading = recogniser.predict(held.pixels)
        about = PredictionInfo("written", "standin", 1, model, int(fold), info.alphabet, recogniser.parameter_count)
        write_predictions(data / "predictions" / f"{name}.parquet", about, held, reading, None)
        texts[name] = reading.texts
    (folder / "reports").mkdir()
    (folder / "reports" / "index.html").write_text("<!doctype html><title>report</title>", encoding="utf-8")
    return Trained(folder, held, [pngs[row] for row in np.flatnonzero(samples.folds == 0)], texts)


@pytest.fixture(scope="session")
def make_service(trained: Trained) -> Callable[..., Service]:
    """A function that makes a demo, which reads in a thread, of a project's models or of those in `folder`."""

    def make(
        batching: Batching | None = None, folder: Path | None = None, project: Trained = trained, **limits: Any
    ) -> Service:
        models = find_models(folder or project.data / "models")
        bounds = DemoLimits(**limits)
        return Service(
            models.abouts,
            Reader(models.folders, bounds.pixels, lambda: ThreadPoolExecutor(1)),
            Library(project.data),
            project.folder / "reports" / "index.html",
            bounds,
            batching or Batching(),
        )

    return make


@pytest.fixture(scope="session")
def client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    """A client of a demo with default limits. Uncaught exceptions become answers with status 500."""
    with TestClient(create_app(make_service()), raise_server_exceptions=False) as opened:
        yield opened


GRID_SVC = "grid-hog_svc-0"


@pytest.fixture(scope="session")
def trained_grids(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Grids of drawn tiles, and a hog_svc that reads some of them. images: the held-out grids as PNG."""
    folder = tmp_path_factory.mktemp("grids")
    data = folder / "data"
    dataset = DATASETS["grid"]
    drawn = [dataset.draw(np.random.default_rng(seed)) for seed in range(600)]
    entries = [Entry(dataset.path_of(number, drawing), drawing.encoded) for number, drawing in enumerate(drawn)]
    raw = data / "raw" / "grid.parquet"
    write_raw(raw, RawInfo("grid", "standin", 1, len(entries), {}), entries, dataset.raw_label)
    shards = data / "shards" / "grid"
    sizes = TileParams(height=48, width=48)
    normalize_tiles(dataset, raw, NormalizeParams(), sizes, 2, shards, folder / "rejects.csv", 1)
    samples = read_samples(shards)
    held = samples.where(samples.folds == 0)
    recogniser = build_recogniser("hog_svc", samples.info.spec, {})
    recogniser.fit(samples.where(samples.folds != 0), held, seed=0)
    model_folder = data / "models" / GRID_SVC
    model_folder.mkdir(parents=True)
    recogniser.save(model_folder, samples.info, 0)
    reading = recogniser.predict(held.pixels)
    about = PredictionInfo(
        "grid",
        "standin",
        1,
        "hog_svc",
        0,
        samples.info.alphabet,
        recogniser.parameter_count,
        class_names=samples.info.class_names,
    )
    write_predictions(data / "predictions" / f"{GRID_SVC}.parquet", about, held, reading, None)
    texts = [display_text(text, samples.info.spec.alphabet, samples.info.class_names) for text in reading.texts]
    images = [cv2.imencode(".png", pixels)[1].tobytes() for pixels in held.pixels]
    return Trained(folder, held, images, {GRID_SVC: texts})
