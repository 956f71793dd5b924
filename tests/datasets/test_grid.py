"""Drawn tiles: size, classes, and equal bytes from equal generators."""

import hashlib
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Drawing, class_name
from captchabench.datasets.grid import SIDE

GRID = DATASETS["grid"]
# Hash of the first five tiles from seed 0. test_standins.py explains when it may change.
PIXELS = "6fbf7b99b34eed04"


def draw_some(seed: int, count: int) -> list[Drawing]:
    rng = np.random.default_rng(seed)
    return [GRID.draw(rng) for _ in range(count)]


def pixels(drawing: Drawing) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(drawing.encoded)).convert("RGB"))


def test_tiles_match_the_declaration() -> None:
    drawings = draw_some(1, 300)
    assert {d.label for d in drawings} == set(GRID.class_names)
    assert len(GRID.class_names) >= 9
    assert {pixels(d).shape for d in drawings} == {(SIDE, SIDE, 3)}
    assert len({d.encoded for d in drawings}) == 300


def test_equal_generators_give_equal_bytes_everywhere() -> None:
    assert draw_some(2, 30) == draw_some(2, 30)
    first = b"".join(pixels(d).tobytes() for d in draw_some(0, 5))
    assert hashlib.sha256(first).hexdigest()[:16] == PIXELS


@pytest.mark.parametrize(
    ("folder", "name"),
    [("bus", "bus"), ("Traffic_Light", "traffic light"), (" fire  hydrant ", "fire hydrant"), ("a\x07b", ""), ("", "")],
)
def test_folders_name_classes(folder: str, name: str) -> None:
    assert class_name(folder) == name


@pytest.mark.parametrize("folder", ["bu\\x07s", "bu\u200bs", "b\u202es", "bus\n", "b" * 101, " ", "_"])
def test_folders_with_unprintable_or_long_names_name_no_class(folder: str) -> None:
    assert class_name(folder) == ""


def test_composed_and_decomposed_accents_are_the_same() -> None:
    assert class_name("\u00c5r") == class_name("A\u030ar") == "\u00e5r"


def test_the_class_of_a_tile_is_its_folder() -> None:
    drawing = draw_some(3, 1)[0]
    assert GRID.raw_label(GRID.path_of(7, drawing)) == drawing.label
    assert GRID.raw_label("deep/in/bus/1.png") == "bus"
    assert GRID.raw_label("1.png") == ""
