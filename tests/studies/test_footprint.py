"""The cost of a recogniser: operations counted by hand, bytes, and time."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.models import build_recogniser
from captchabench.models.char_cnn import CharCnn
from captchabench.networks.readings import Reading
from captchabench.samples.shards import Samples, TextSpec
from captchabench.studies.footprint import bytes_on_disk, flops_per_image, latency_seconds

SPEC = TextSpec(Alphabet("0123456789"), 6, 6, 32, 100)
IMAGE = np.zeros((32, 100), np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_flops_of_crnn_by_hand() -> None:
    parameters = {"channels": [4, 8, 16], "stem_stride": 2, "hidden": 12, "layers": 1, "dropout": 0.0}
    stem = 2 * (16 * 50) * 4 * 25
    second, third = 2 * (16 * 50) * 8 * 4 * 9, 2 * (8 * 25) * 16 * 8 * 9
    steps, features = 25, 16 * 4
    # Two directions of four gates, from the features and from the state.
    lstm = 2 * steps * 2 * (4 * 12) * (features + 12)
    classify = 2 * steps * 24 * 11
    assert flops_per_image(build_recogniser("crnn", SPEC, parameters), IMAGE) == stem + second + third + lstm + classify


def test_flops_of_cnn_transformer_by_hand() -> None:
    parameters = {"channels": [4, 8, 16], "stem_stride": 2, "dimension": 16, "heads": 2, "feedforward": 20, "layers": 3}
    front = 2 * (16 * 50) * 4 * 25 + 2 * (16 * 50) * 8 * 4 * 9 + 2 * (8 * 25) * 16 * 8 * 9
    t, d = 25, 16
    project, classify = 2 * t * 64 * d, 2 * t * d * 11
    # Query, key, value and output; scores and their sums; two linear layers.
    layer = 2 * t * d * d * 4 + 2 * 2 * t * t * d + 2 * 2 * t * d * 20
    recogniser = build_recogniser("cnn_transformer", SPEC, parameters)
    assert flops_per_image(recogniser, IMAGE) == front + project + classify + 3 * layer


def test_flops_of_char_cnn_by_hand(make_samples: Callable[..., Samples]) -> None:
    samples = make_samples(20, lengths=(6, 6))
    recogniser = build_recogniser("char_cnn", samples.info.spec, {"channels": [2, 3, 4, 5]})
    assert isinstance(recogniser, CharCnn)
    recogniser.segmenter.fit(samples.pixels, samples.labels)
    sizes = [(32 * 24, 1, 2), (16 * 12, 2, 3), (8 * 6, 3, 4), (4 * 3, 4, 5)]
    convolutions = sum(2 * pixels * inputs * outputs * 9 for pixels, inputs, outputs in sizes)
    expected = 6 * (convolutions + 2 * 4 * 3 * 5 * 10)
    assert flops_per_image(recogniser, samples.pixels[0]) == expected


@pytest.mark.parametrize("name", ["dummy", "hog_svc"])
def test_a_recogniser_without_a_network_has_no_count(name: str) -> None:
    assert flops_per_image(build_recogniser(name, SPEC, {}), IMAGE) is None


def test_counting_leaves_the_recogniser_as_it_was() -> None:
    recogniser = build_recogniser("crnn", SPEC, {"channels": [4, 8, 16], "hidden": 8, "layers": 1})
    before = recogniser.predict(IMAGE[None])
    assert flops_per_image(recogniser, IMAGE) == flops_per_image(recogniser, IMAGE)
    after = recogniser.predict(IMAGE[None])
    assert before.texts == after.texts
    assert before.confidences == after.confidences


def test_bytes_of_all_files_count(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"678")
    assert bytes_on_disk(tmp_path) == 8


def test_latency_is_the_median_of_single_images(
    make_samples: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = build_recogniser("dummy", SPEC, {})
    batch_sizes = []

    def predict(pixels: NDArray[np.uint8]) -> Reading:
        batch_sizes.append(len(pixels))
        time.sleep(0.05 if len(batch_sizes) == 8 else 0.002)
        return Reading([""], np.zeros(1, np.float32))

    monkeypatch.setattr(recogniser, "predict", predict)
    seconds = latency_seconds(recogniser, make_samples(9).pixels)
    # Five to warm up, then each of the nine; one slow image moves no median.
    assert batch_sizes == [1] * 14
    assert 0.002 <= seconds < 0.03
