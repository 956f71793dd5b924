"""The share of a GPU's memory that is used, with a mocked memory size."""

import numpy as np
import pytest
import torch

from captchabench.alphabet import Alphabet
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.models.neural import NeuralRecogniser
from captchabench.networks.device import memory_share, reading_batch
from captchabench.samples.shards import TextSpec
from captchabench.training.feed import default_window_bytes


def test_less_memory_means_less_data_on_the_device_and_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    cuda = torch.device("cuda")
    assert (default_window_bytes(cuda), reading_batch(32, 100)) == (400, 512)
    monkeypatch.setenv("CAPTCHABENCH_MEMORY_SHARE", "0.25")
    assert (default_window_bytes(cuda), reading_batch(32, 100)) == (100, 128)
    assert default_window_bytes(torch.device("cpu")) is None
    monkeypatch.setenv("CAPTCHABENCH_MEMORY_SHARE", "0.001")
    assert reading_batch(32, 100) == 1


def test_larger_images_are_read_fewer_at_a_time() -> None:
    assert reading_batch(24, 60) == 512
    assert reading_batch(64, 100) == 256
    assert reading_batch(288, 288) == 19
    assert reading_batch(4000, 4000) == 1


def test_smaller_batches_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TextSpec(Alphabet("0123456789"), 1, 4, 32, 100)
    recogniser = build_recogniser("crnn", spec, {"channels": [4, 4, 4], "hidden": 4, "layers": 1})
    assert isinstance(recogniser, NeuralRecogniser)
    pixels = np.random.default_rng(0).integers(0, 255, (9, 32, 100), np.uint8)
    at_once = recogniser.predict(pixels)
    sizes: list[int] = []
    recogniser.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setenv("CAPTCHABENCH_MEMORY_SHARE", str(4 / 512))
    parts = recogniser.predict(pixels)
    assert sizes == [4, 4, 1]
    assert parts.texts == at_once.texts
    np.testing.assert_allclose(parts.confidences, at_once.confidences, rtol=1e-3)


@pytest.mark.parametrize("text", ["0", "2", "half"])
def test_an_impossible_share_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CAPTCHABENCH_MEMORY_SHARE", text)
    with pytest.raises(InputError, match="above 0 and at most 1"):
        memory_share()
