"""Datasets that params.yaml alone declares go through the whole benchmark, beside one of stand-ins."""

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import yaml
from numpy.typing import NDArray
from starlette.testclient import TestClient

from captchabench.demo.app import create_app
from captchabench.demo.limits import DemoLimits
from captchabench.demo.reading import Reader
from captchabench.demo.samples import Library
from captchabench.demo.serve import find_models
from captchabench.demo.service import Service
from tests.chaos.small import Benchmark
from tests.conftest import write_text

IMAGES = 160
OVERLAY = """
datasets:
  mine: {path: data/downloads/mine.zip, labels: before-first-underscore}
  boxes: {path: data/downloads/boxes}
matrix:
  datasets: [numbers6, mine]
  tiles: {datasets: [boxes], models: [dummy]}
"""


def captcha(seed: int) -> tuple[str, bytes]:
    """Four digits and their picture. The name also holds a number of four digits, which is no label."""
    rng = np.random.default_rng(seed)
    label = "".join(rng.choice(list("0123456789"), 4))
    return f"{label}_{seed:04d}.png", png(write_text(label, rng))


def png(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def tile(kind: str, seed: int) -> bytes:
    """A tile of noise with a shape."""
    rng = np.random.default_rng([seed, len(kind)])
    pixels = rng.integers(0, 120, (48, 48), np.uint8)
    at = (int(rng.integers(18, 30)), int(rng.integers(18, 30)))
    if kind == "disc":
        cv2.circle(pixels, at, 12, 255, -1)
    else:
        cv2.drawMarker(pixels, at, 255, cv2.MARKER_CROSS, 26, 5)
    return png(pixels)


@contextmanager
def aside(path: Path) -> Iterator[None]:
    """A file that is away for a while."""
    away = path.rename(path.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(path)


def zip_captchas(path: Path, seeds: range) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for seed in seeds:
            archive.writestr(*captcha(seed))
        archive.writestr("_1234.png", png(np.zeros((32, 100), np.uint8)))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """The benchmark after its first run, committed."""
    own = Benchmark(
        tmp_path_factory.mktemp("own") / "benchmark",
        datasets={"numbers6": {"images": 60}},
        matrix={
            "datasets": ["numbers6"],
            "models": ["hog_svc"],
            "union": ["dummy"],
            "tiles": {"datasets": [], "models": []},
            "folds": [0],
        },
        probe={"images": 8},
        models={"dummy": {}, "hog_svc": {"max_characters": 400}},
    )
    downloads = own.folder / "data/downloads"
    zip_captchas(downloads / "mine.zip", range(IMAGES))
    for kind in ("disc", "cross"):
        (downloads / "boxes" / kind).mkdir(parents=True)
        for seed in range(70):
            (downloads / "boxes" / kind / f"{seed}.png").write_bytes(tile(kind, seed))
    (own.folder / "overlay.yaml").write_text(OVERLAY)
    added = own.call(sys.executable, "-m", "captchabench", "apply", "overlay.yaml").stdout
    assert "datasets.mine: None -> " in added
    ran = set(own.repro())
    assert {"ingest@mine", "normalize@mine", "train@mine-hog_svc-0", "predict-tiles@boxes-dummy-0", "report"} <= ran
    own.commit("first run")
    return own


def test_every_table_and_the_page_have_it(benchmark: Benchmark) -> None:
    folder = benchmark.folder
    board = pl.read_csv(folder / "metrics/leaderboard.csv")
    sources = dict(board.select("dataset", "source").rows())
    assert sources == {
        "boxes": "archive",
        "mine": "archive",
        "numbers6": "standin",
        "union": "archive+standin",
        "union/mine": "archive+standin",
        "union/numbers6": "archive+standin",
    }
    figures = json.loads((folder / "metrics/data/mine.json").read_text())
    assert (figures["label_rule"], figures["rejected"]) == ("before-first-underscore", {"empty_label": 1})
    assert "_1234.png,,empty_label" in (folder / "data/rejects/mine.csv").read_text()
    for table in ("confusion", "cost", "curves", "robustness", "transfer"):
        assert "mine" in pl.read_csv(folder / f"metrics/{table}.csv").to_series(0), table
    assert pl.read_csv(folder / "metrics/classes.csv")["class"].to_list() == ["cross", "disc"]
    page = (folder / "reports/index.html").read_text()
    for shown in ("boxes, mine: images from local archives; numbers6: drawn", "empty_label 1", "boxes (tiles)"):
        assert shown in page
    listed = benchmark.call("env", "COLUMNS=200", sys.executable, "-m", "captchabench", "datasets").stdout
    assert "data/downloads/mine.zip" in listed
    assert benchmark.repro() == []


def test_predict_scores_by_the_declared_rule(benchmark: Benchmark, tmp_path: Path) -> None:
    for seed in range(1000, 1020):
        name, content = captcha(seed)
        (tmp_path / name).write_bytes(content)
    command = ("captchabench", "predict", str(tmp_path), "--model", "data/models/mine-hog_svc-0", "--labels-from-name")
    printed = benchmark.call(sys.executable, "-m", *command).stderr
    match = re.search(r"exact .*\((\d+) of 20,", printed)
    assert match, printed
    assert int(match[1]) >= 15
    # Without the declaration, two rules find texts of four digits.
    with (
        aside(benchmark.folder / "params.yaml"),
        pytest.raises(RuntimeError, match=r"can be '\d{4}' by after-number or '\d{4}' by before-first"),
    ):
        benchmark.call(sys.executable, "-m", *command)


def test_the_demo_reads_it(benchmark: Benchmark) -> None:
    data = benchmark.folder / "data"
    usable = find_models(data / "models")
    assert {"mine-hog_svc-0", "boxes-dummy-0", "union-dummy-0"} <= set(usable.folders)
    reader = Reader(usable.folders, DemoLimits().pixels, lambda: ThreadPoolExecutor(1))
    service = Service(usable.abouts, reader, Library(data), benchmark.folder / "reports/index.html")
    with TestClient(create_app(service)) as client:
        asked = {"model": "mine-hog_svc-0"}
        _, content = captcha(1000)
        answer = client.post("/predict", params=asked, content=content, headers={"content-type": "image/png"})
        assert answer.status_code == 200, answer.text
        assert re.fullmatch(r"\d{4}", answer.json()["results"][0]["readings"][0]["text"])
        assert set(client.get("/datasets").json()["datasets"]) == {"boxes", "mine", "numbers6"}
        (sample,) = client.get("/samples/boxes", params={"fold": 0, "limit": 1}).json()["samples"]
        assert set(sample["label"].split(", ")) <= {"cross", "disc"}


def test_a_change_of_its_files_reruns_its_cells_alone(benchmark: Benchmark) -> None:
    zip_captchas(benchmark.folder / "data/downloads/mine.zip", range(10, IMAGES + 10))
    ran = set(benchmark.repro())
    cells = {name for name in ran if name.startswith(("normalize", "train", "predict"))}
    assert cells == {
        "normalize@mine",
        "train@mine-hog_svc-0",
        "predict@mine-hog_svc-0",
        "train-union@union-dummy-0",
        "predict-union@union-dummy-0",
    }
    benchmark.commit("other images")
    command = ("captchabench", "compare", "HEAD~1", "HEAD", "--format", "json")
    compared = json.loads(benchmark.call(sys.executable, "-m", *command).stdout)
    rows = {(row["dataset"], row["model"]): row for row in compared["rows"]}
    assert ("mine", "hog_svc") in rows
    assert rows["numbers6", "hog_svc"]["old"] == rows["numbers6", "hog_svc"]["new"]


def test_a_dropped_dataset_leaves_nothing(benchmark: Benchmark) -> None:
    params = yaml.safe_load((benchmark.folder / "params.yaml").read_text())
    matrix = {**params["matrix"], "datasets": ["numbers6"], "tiles": {"datasets": [], "models": []}}
    benchmark.set(datasets={"numbers6": {"images": 60}}, matrix=matrix)
    benchmark.repro()
    left = [path for path in (benchmark.folder / "data").rglob("*") if path.name.startswith(("mine-", "boxes-"))]
    assert left == []
    for name in ("shards/mine", "shards/boxes", "rejects/mine.csv", "rejects/boxes.csv"):
        assert not (benchmark.folder / "data" / name).exists()
