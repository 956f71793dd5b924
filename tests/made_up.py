"""A small synthetic dataset, its images and its archives."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.samples.shards import CHECKSUM_KEY
from captchabench.storage.checksum import UNSEALED, seal

SYMBOLS = "ABab0123"
Rewrite = Callable[[Path, pa.Table], None]
Picture = Callable[..., bytes]
Pack = Callable[[Path, dict[str, bytes]], Path]


def noise(seed: int, height: int = 24, width: int = 60) -> NDArray[np.uint8]:
    """Blurred noise [H, W] uint8, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 16), dtype=np.uint8)
    pixels: NDArray[np.uint8] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels


def draw(rng: np.random.Generator) -> Drawing:
    label = "".join(rng.choice(list(SYMBOLS), 3))
    return Drawing(label, cv2.imencode(".png", noise(int(rng.integers(1 << 30))))[1].tobytes(), "png")


def make_dataset(key: str = "fake") -> Dataset:
    return Dataset(
        key=key,
        handle=f"someone/{key}-captchas",
        kaggle_version=3,
        licence="made up",
        images=40,
        symbols=SYMBOLS,
        min_length=3,
        max_length=3,
        draw=draw,
        corrupt=frozenset({"BBB"}),
    )


@pytest.fixture
def fake() -> Dataset:
    """A dataset with labels of three symbols out of eight. Its archives are called fake-captchas."""
    return make_dataset()


@pytest.fixture
def registered(fake: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The synthetic dataset, registered so that stages can use it."""
    monkeypatch.setitem(DATASETS._entries, fake.key, fake)
    return fake


@pytest.fixture
def picture() -> Picture:
    """An encoded noise image: picture(seed, suffix=".png", **noise's parameters)."""

    def encode(seed: int, suffix: str = ".png", **size: int) -> bytes:
        return bytes(cv2.imencode(suffix, noise(seed, **size))[1].tobytes())

    return encode


@pytest.fixture
def packed() -> Pack:
    """A function that writes files (name: content) to a folder, or to an archive if the path has its suffix."""

    def pack(path: Path, files: dict[str, bytes]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        elif ".tar" in path.suffixes or path.suffix == ".tgz":
            with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
                for name, content in files.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        else:
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        return path

    return pack


@pytest.fixture
def rewrite() -> Rewrite:
    """A function that replaces the rows of a shard and updates its checksum."""

    def write(part: Path, table: pa.Table) -> None:
        metadata = {**table.schema.metadata, CHECKSUM_KEY: UNSEALED.encode()}
        pq.write_table(table.replace_schema_metadata(metadata), part)
        seal(part)

    return write
