"""Every registered model implements the interface of `models/base.py`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captchabench.config import load_params
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS, build_recogniser, load_recogniser
from captchabench.models.base import Recogniser
from captchabench.models.neural import CTCRecogniser, NeuralRecogniser, encode_labels
from captchabench.networks.network import standardize
from captchabench.samples.shards import Samples
from tests.budgets import few_steps, overfitting

MakeSamples = Callable[..., Samples]

EVERY = pytest.mark.parametrize("name", RECOGNISERS.names())
DEEP = pytest.mark.parametrize("name", [n for n in RECOGNISERS.names() if issubclass(RECOGNISERS[n], NeuralRecogniser)])
CTC = pytest.mark.parametrize("name", [n for n in RECOGNISERS.names() if issubclass(RECOGNISERS[n], CTCRecogniser)])


def build(name: str, samples: Samples, parameters: Mapping[str, Any] | None = None) -> Recogniser:
    return build_recogniser(name, samples.info.spec, few_steps(name) if parameters is None else parameters)


@EVERY
def test_fit_predict_save_load(name: str, make_samples: MakeSamples, tmp_path: Path) -> None:
    samples = make_samples(40)
    model = build(name, samples)
    curve = model.fit(samples, samples, seed=0)
    assert curve
    assert all(0 <= point.validation_exact <= 1 for point in curve)

    reading = model.predict(samples.pixels)
    assert len(reading.texts) == len(samples)
    assert reading.confidences.shape == (len(samples),)
    assert reading.confidences.dtype == np.float32
    assert ((reading.confidences >= 0) & (reading.confidences <= 1.0001)).all()
    assert set("".join(reading.texts)) <= set(samples.info.alphabet)
    assert model.parameter_count > 0

    # Single images are read as in a batch, on every type of processor.
    alone = [model.predict(samples.pixels[row : row + 1]) for row in range(4)]
    assert [one.texts for one in alone] == [[text] for text in reading.texts[:4]]
    np.testing.assert_allclose([one.confidences[0] for one in alone], reading.confidences[:4], rtol=0, atol=1e-5)

    model.save(tmp_path, samples.info, fold=0)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".json", ".safetensors", ".npz"}
    again = load_recogniser(tmp_path)
    assert again.predict(samples.pixels).texts == reading.texts
    np.testing.assert_allclose(again.predict(samples.pixels).confidences, reading.confidences, rtol=1e-5, atol=1e-7)
    assert again.parameter_count == model.parameter_count

    losses = model.losses(samples.pixels, samples.labels)
    if losses is not None:
        assert losses.shape == (len(samples),)
        assert np.isfinite(losses).all()


@EVERY
def test_saving_twice_gives_the_same_bytes(name: str, make_samples: MakeSamples, tmp_path: Path) -> None:
    samples = make_samples(40)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        model = build(name, samples)
        model.fit(samples, samples, seed=0)
        model.save(folder, samples.info, fold=0)
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


@EVERY
def test_reading_zero_images_returns_no_texts(name: str, make_samples: MakeSamples) -> None:
    samples = make_samples(40)
    model = build(name, samples)
    model.fit(samples, samples, seed=0)
    reading = model.predict(samples.pixels[:0])
    assert reading.texts == []
    assert reading.confidences.shape == (0,)


@EVERY
def test_labels_of_several_lengths(name: str, make_samples: MakeSamples) -> None:
    samples = make_samples(40, lengths=(3, 5))
    model = build(name, samples)
    model.fit(samples, samples, seed=0)
    assert len(model.predict(samples.pixels).texts) == len(samples)


@DEEP
def test_gradients_reach_every_weight(name: str, make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    model = build(name, samples)
    assert isinstance(model, NeuralRecogniser)
    model.fit(samples, samples, seed=0)
    network = model.network.train()
    tensors = model.tensors(samples)
    images = torch.randn(len(tensors.images), 1, *tensors.images.shape[1:])
    lengths = (tensors.targets >= 0).sum(dim=1)
    network.losses(network(images), tensors.targets, lengths).mean().backward()
    for weight_name, weight in network.named_parameters():
        assert weight.grad is not None, weight_name
        assert torch.isfinite(weight.grad).all(), weight_name


@DEEP
def test_overfits_sixteen_samples(name: str, make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    model = build(name, samples, overfitting(name))
    model.fit(samples, samples, seed=0)
    assert model.predict(samples.pixels).texts == samples.labels.tolist()


@pytest.mark.parametrize("name", ["crnn", "cnn_transformer"])
def test_too_few_time_steps_are_refused(name: str, make_samples: MakeSamples) -> None:
    samples = make_samples(2, lengths=(14, 14))
    with pytest.raises(InputError, match=r"100 px wide gives 25 time steps.* 2 x 14 - 1 = 27"):
        build(name, samples)


@CTC
def test_decoding_is_a_parameter(name: str, make_samples: MakeSamples, tmp_path: Path) -> None:
    samples = make_samples(16)
    model = build(name, samples, overfitting(name))
    model.fit(samples, samples, seed=0)
    model.save(tmp_path, samples.info, fold=0)
    for decoding in ({"method": "beam", "width": 4}, {"length_prior": True}, {"method": "beam", "length_prior": True}):
        other = build(name, samples, {**overfitting(name), "decoding": decoding})
        other.load_weights(tmp_path)
        assert other.predict(samples.pixels).texts == samples.labels.tolist()
        if decoding.get("length_prior"):
            noise = np.random.default_rng(0).integers(0, 256, samples.pixels.shape, np.uint8)
            assert {len(text) for text in other.predict(noise).texts} == {4}


@CTC
def test_shift_average_is_the_normalised_mean_over_five_images(
    name: str, make_samples: MakeSamples, tmp_path: Path
) -> None:
    samples = make_samples(6)
    model = build(name, samples)
    model.fit(samples, samples, seed=0)
    model.save(tmp_path, samples.info, fold=0)
    averaging = build(name, samples, {**few_steps(name), "decoding": {"shift_average": True}})
    averaging.load_weights(tmp_path)
    assert isinstance(model, NeuralRecogniser)
    # With a border of one grey, a shift that repeats border pixels is a rotation.
    framed = np.full_like(samples.pixels, 200)
    framed[:, 2:-2, 2:-2] = samples.pixels[:, 2:-2, 2:-2]
    shifts = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    views = [torch.from_numpy(np.roll(framed, shift, axis=(1, 2))) for shift in shifts]
    with torch.no_grad():
        mean = torch.stack([model.network(standardize(view)) for view in views]).mean(dim=0).log_softmax(dim=2)
    targets = encode_labels(samples.info.spec.alphabet, samples.labels, samples.info.spec.max_length)
    expected = model.network.losses(mean, targets, (targets >= 0).sum(dim=1))
    losses = averaging.losses(framed, samples.labels)
    assert losses is not None
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    plain = model.losses(framed, samples.labels)
    assert plain is not None
    assert not np.allclose(losses, plain, rtol=1e-4)


@EVERY
def test_an_unknown_parameter_names_the_nearest(name: str, make_samples: MakeSamples) -> None:
    with pytest.raises(InputError, match=rf"params.yaml: models.{name}\.\w+: no such parameter"):
        build(name, make_samples(2), {"no_such": 1})


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        load_recogniser(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="not a saved model"):
        load_recogniser(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="format 99"):
        load_recogniser(tmp_path)


@pytest.mark.parametrize("name", ["crnn", "dummy"])
def test_damaged_weights_are_refused(name: str, make_samples: MakeSamples, tmp_path: Path) -> None:
    samples = make_samples(20)
    model = build(name, samples)
    model.fit(samples, samples, seed=0)
    model.save(tmp_path, samples.info, fold=0)
    for path in tmp_path.iterdir():
        if path.name != "config.json":
            path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"train (it|the model) again"):
        load_recogniser(tmp_path)


def test_shipped_parameters_are_valid(make_samples: MakeSamples) -> None:
    samples = make_samples(2)
    for name, parameters in load_params().models.items():
        build(name, samples, parameters)
