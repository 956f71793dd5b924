"""Fixtures for all tests: small datasets, and the settings of pytest and hypothesis."""

import os

# Tests run in parallel with one thread each. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from captchabench.samples.shards import Samples, ShardInfo

# No time limits: tests must not fail on a busy machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

HEIGHT, WIDTH = 32, 100

pytest_plugins = ["tests.browser", "tests.made_up", "tests.predicted"]


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests, except with `-m gpu`, which fails if there is none."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    if not torch.cuda.is_available():
        raise pytest.UsageError("there is no GPU that torch can use; `captchabench doctor` says why")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest file first: one worker runs it while the others run the rest. Skip GPU tests without `-m gpu`."""
    items.sort(key=lambda item: item.path.name != "test_dag.py")
    if config.option.markexpr != "gpu":
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="run by `make test-gpu`"))


def write_text(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Dark text on a light background, slightly displaced: [HEIGHT, WIDTH] uint8."""
    image = np.full((HEIGHT, WIDTH), 230, np.uint8)
    for index, symbol in enumerate(label):
        x = 6 + index * 88 // len(label) + int(rng.integers(-1, 2))
        cv2.putText(image, symbol, (x, 24 + int(rng.integers(-2, 3))), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 30, 2)
    return image


@pytest.fixture(scope="session")
def make_samples() -> Callable[..., Samples]:
    """A function that makes `count` samples with labels of given lengths over an alphabet; folds 0 to 4 in turn."""

    def make(count: int, *, alphabet: str = "0123456789", lengths: tuple[int, int] = (4, 4), seed: int = 0) -> Samples:
        rng = np.random.default_rng(seed)
        labels = [
            "".join(rng.choice(list(alphabet), int(rng.integers(lengths[0], lengths[1] + 1)))) for _ in range(count)
        ]
        info = ShardInfo("written", "standin", 1, HEIGHT, WIDTH, alphabet, *lengths)
        return Samples(
            info,
            np.array([f"{i:032x}" for i in range(count)], object),
            np.array(labels, object),
            (np.arange(count) % 5).astype(np.int8),
            np.full(count, "written", object),
            np.stack([write_text(label, rng) for label in labels]),
        )

    return make


@pytest.fixture(scope="module")
def spared_garbage() -> Iterator[None]:
    """Exempt existing objects from garbage collection: statsmodels collects at each call, which takes 0.125 s."""
    gc.freeze()
    yield
    gc.unfreeze()
