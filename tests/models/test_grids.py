"""Models on grids of tiles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from captchabench.alphabet import class_alphabet
from captchabench.data.grids import compose, tiles_of
from captchabench.data.shards import Samples, ShardInfo
from captchabench.errors import InputError
from captchabench.inference.loaded import LoadedRecogniser
from captchabench.inference.loaded import load_recogniser as load_for_reading
from captchabench.models import build_recogniser
from captchabench.models.parts.backbone import load_backbone
from captchabench.models.parts.tiles import TileCutter

NAMES = ("bus", "car", "tree", "truck")
SIDE = 16
SMALL = {
    "char_cnn": {"channels": [8, 8, 16, 16], "dropout": 0.0, "training": {"steps": 60, "batch_size": 6}},
    # Several looks: running means of the normalisation follow some steps behind, and the best weights are kept.
    "effnet_b1": {
        "column_stride": 8,
        "dropout": 0.0,
        "training": {"steps": 80, "batch_size": 6, "learning_rate": 3e-3, "evaluations": 8, "stop_when_perfect": True},
    },
}


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Six grids of four kinds of stripes and spots, each tile a little different."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    looks = [x % 8 < 4, y % 8 < 4, (x + y) % 8 < 4, (x - 8) ** 2 + (y - 8) ** 2 < 25]
    symbols = class_alphabet(len(NAMES)).symbols
    classes = rng.integers(0, 4, (6, 9))
    tiles = np.stack([[60 + 130 * looks[c] for c in grid] for grid in classes])
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
def test_overfits_a_few_grids_and_says_what_is_where(name: str, samples: Samples, tmp_path: Path) -> None:
    model = saved(name, samples, tmp_path)
    assert (model.about.task, model.about.class_names) == ("grid", NAMES)
    wanted = [", ".join(NAMES[model.about.alphabet.index(s)] for s in label) for label in samples.labels]
    read = model.predict(samples.pixels, top_k=2)
    assert [p.text for p in read] == wanted
    assert all(p.alternatives[0].text == p.text for p in read)
    (found,) = model.explain(samples.pixels[:1])
    assert found.steps.kind == "cells"
    assert [step.symbol for step in found.steps.steps] == wanted[0].split(", ")
    boxes = [(step.left, step.top, step.right, step.bottom) for step in found.steps.steps]
    assert boxes[5] == (2 * SIDE, SIDE, 3 * SIDE, 2 * SIDE)
    assert len(set(boxes)) == 9


def test_the_dummy_answers_a_grid(samples: Samples, tmp_path: Path) -> None:
    (read,) = saved("dummy", samples, tmp_path).predict(samples.pixels[:1])
    assert len(read.text.split(", ")) == 9


@pytest.mark.parametrize("name", ["crnn", "cnn_transformer"])
def test_ctc_refuses_grids(name: str, samples: Samples) -> None:
    with pytest.raises(InputError, match=r"a grid of tiles has three; name other models in grid\.tiles\.models"):
        build_recogniser(name, samples.info.spec, {})


def test_crops_are_the_tiles_row_by_row(samples: Samples) -> None:
    found = TileCutter(samples.info.spec).segment(samples.pixels)
    assert found.crops.shape == (6, 9, 32, 32)
    tiles = tiles_of(samples.pixels)
    means = tiles.reshape(6, 9, -1).mean(axis=2)
    np.testing.assert_allclose(found.crops.reshape(6, 9, -1).mean(axis=2), means, atol=1.5)
    assert found.spans[0, 4].tolist() == [SIDE, 2 * SIDE]
    assert TileCutter(samples.info.spec).segment(samples.pixels[:0]).crops.shape == (0, 9, 32, 32)


@pytest.fixture(scope="module")
def colour_weights() -> dict[str, torch.Tensor]:
    """Weights as timm publishes them: for colour, with a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return dict(timm.create_model("efficientnet_b1", num_classes=5).state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(
    suffix: str, colour_weights: dict[str, torch.Tensor], samples: Samples, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": colour_weights}, path)
    else:
        save_file(colour_weights, path)
    parameters = {**SMALL["effnet_b1"], "weights": str(path), "training": {"steps": 1, "batch_size": 4}}
    model = build_recogniser("effnet_b1", samples.info.spec, parameters)
    features = model.network.encoder.features  # type: ignore[attr-defined]
    torch.testing.assert_close(features.conv_stem.weight, colour_weights["conv_stem.weight"].sum(dim=1, keepdim=True))
    torch.testing.assert_close(features.conv_head.weight, colour_weights["conv_head.weight"])
    # A trained model is read without the file that it started from.
    model.fit(samples, samples, seed=0)
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model", samples.info, 0)
    path.unlink()
    assert len(load_for_reading(tmp_path / "model").predict(samples.pixels[:1])) == 1


def refused(network: torch.nn.Module, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(network, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_files_are_refused(
    colour_weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = timm.create_model("efficientnet_b1", in_chans=1, num_classes=0, global_pool="")
    path = tmp_path / "w.safetensors"
    assert "cannot be read" in refused(network, path)
    path.write_bytes(b"\x00" * 20)
    assert "cannot be read" in refused(network, path)
    save_file({**colour_weights, "conv_head.weight": torch.zeros(1280, 100, 1, 1)}, path)
    assert "conv_head.weight has the shape (1280, 100, 1, 1), not (1280, 320, 1, 1)" in refused(network, path)
    save_file({"conv_stem.weight": colour_weights["conv_stem.weight"]}, path)
    assert "is not of this network (lacks" in refused(network, path)
    save_file({**colour_weights, "more": torch.zeros(1)}, path)
    assert "holds more, which is none of its weights" in refused(network, path)
    pickled = tmp_path / "w.pth"
    torch.save({"x": Path("code")}, pickled)
    assert "save them as safetensors" in refused(network, pickled)
    torch.save([1, 2], pickled)
    assert "holds no weights by name" in refused(network, pickled)


def test_no_file_where_none_is_needed(make_samples: Callable[..., Samples]) -> None:
    samples = make_samples(2)
    with pytest.raises(InputError, match=r"models\.effnet_b1\.weights names the file"):
        build_recogniser("effnet_b1", samples.info.spec, {"weights": "none.safetensors"})
