"""Models on grids of tiles."""

from pathlib import Path

import numpy as np
import pytest
import torch

from captchabench.alphabet import class_alphabet
from captchabench.errors import InputError
from captchabench.inference.loaded import LoadedRecogniser
from captchabench.inference.loaded import load_recogniser as load_for_reading
from captchabench.models import build_recogniser
from captchabench.models.neural import NeuralRecogniser
from captchabench.models.segmentation.tiles import TileCutter
from captchabench.normalize.grids import compose, split_grids
from captchabench.samples.shards import Samples, ShardInfo

NAMES = ("bus", "car", "tree", "truck")
SIDE = 16
SMALL = {
    "char_cnn": {"channels": [8, 8, 16, 16], "dropout": 0.0, "training": {"steps": 60, "batch_size": 6}},
    # Several evaluations: running means of batch normalisation lag some steps behind, and the best weights are kept.
    "effnet_b1": {
        "training": {"steps": 80, "batch_size": 3, "learning_rate": 1e-3, "evaluations": 8, "stop_when_perfect": True},
    },
}


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Six grids of tiles with four patterns, stripes and spots, each with different noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    patterns = [x % 8 < 4, y % 8 < 4, (x + y) % 8 < 4, (x - 8) ** 2 + (y - 8) ** 2 < 25]
    symbols = class_alphabet(len(NAMES)).symbols
    classes = rng.integers(0, 4, (6, 9))
    tiles = np.stack([[60 + 130 * patterns[c] for c in grid] for grid in classes])
    pixels = compose((tiles + rng.integers(-20, 20, tiles.shape)).astype(np.uint8))
    info = ShardInfo("grid", "standin", 1, 3 * SIDE, 3 * SIDE, symbols, 9, 9, task="grid", class_names=NAMES)
    labels = np.array(["".join(symbols[c] for c in grid) for grid in classes], object)
    ids = np.array([f"{i:032x}" for i in range(6)], object)
    return Samples(info, ids, labels, np.zeros(6, np.int8), np.full(6, "grid", object), pixels)


def saved(name: str, samples: Samples, folder: Path) -> LoadedRecogniser:
    model = build_recogniser(name, samples.info.spec, SMALL.get(name, {}))
    model.fit(samples, samples, seed=0)
    model.save(folder, samples.info, 0)
    return load_for_reading(folder)


@pytest.mark.parametrize("name", ["hog_svc", "char_cnn", "effnet_b1"])
def test_overfits_a_few_grids_and_explains_each_tile(name: str, samples: Samples, tmp_path: Path) -> None:
    model = saved(name, samples, tmp_path)
    assert (model.about.task, model.about.class_names) == ("grid", NAMES)
    wanted = [", ".join(NAMES[model.about.alphabet.index(s)] for s in label) for label in samples.labels]
    read = model.predict(samples.pixels, top_k=2)
    assert [p.text for p in read] == wanted
    assert all(p.alternatives[0].text == p.text for p in read)
    (result,) = model.explain(samples.pixels[:1])
    assert result.steps.kind == "cells"
    assert [step.symbol for step in result.steps.steps] == wanted[0].split(", ")
    boxes = [(step.left, step.top, step.right, step.bottom) for step in result.steps.steps]
    assert boxes[5] == (2 * SIDE, SIDE, 3 * SIDE, 2 * SIDE)
    assert len(set(boxes)) == 9


def test_the_dummy_answers_a_grid(samples: Samples, tmp_path: Path) -> None:
    (read,) = saved("dummy", samples, tmp_path).predict(samples.pixels[:1])
    assert len(read.text.split(", ")) == 9


@pytest.mark.parametrize("name", ["crnn", "cnn_transformer"])
def test_ctc_refuses_grids(name: str, samples: Samples) -> None:
    with pytest.raises(InputError, match=r"a grid of tiles has three; name other models in matrix\.tiles\.models"):
        build_recogniser(name, samples.info.spec, {})


def test_crops_are_the_tiles_row_by_row(samples: Samples) -> None:
    result = TileCutter(samples.info.spec).segment(samples.pixels)
    assert result.crops.shape == (6, 9, 32, 32)
    tiles = split_grids(samples.pixels)
    means = tiles.reshape(6, 9, -1).mean(axis=2)
    np.testing.assert_allclose(result.crops.reshape(6, 9, -1).mean(axis=2), means, atol=1.5)
    assert result.spans[0, 4].tolist() == [SIDE, 2 * SIDE]
    assert TileCutter(samples.info.spec).segment(samples.pixels[:0]).crops.shape == (0, 9, 32, 32)


def test_effnet_b1_reads_each_tile_by_itself(samples: Samples) -> None:
    model = build_recogniser("effnet_b1", samples.info.spec, {})
    assert isinstance(model, NeuralRecogniser)
    model.warm_start(model.network)
    network = model.network.eval()
    images = torch.randn(1, 1, 3 * SIDE, 3 * SIDE)
    # The second tile of the first row becomes the first of the last row; all others change.
    moved = torch.randn(1, 1, 3 * SIDE, 3 * SIDE)
    moved[:, :, 2 * SIDE :, :SIDE] = images[:, :, :SIDE, SIDE : 2 * SIDE]
    with torch.inference_mode():
        before, after = network(images)[0], network(moved)[0]
    torch.testing.assert_close(before[1], after[6])
    assert (before - after).abs().amax(dim=1).min() > 0.01
