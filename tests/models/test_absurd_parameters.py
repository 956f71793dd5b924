"""Parameters that cannot work are refused in one line, before they take memory."""

from typing import Any

import pytest
import timm

from captchabench.alphabet import Alphabet
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.models.neural import NeuralRecogniser
from captchabench.samples.shards import TextSpec

SPEC = TextSpec(Alphabet("AB"), 4, 5, 32, 100)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("char_cnn", {"channels": [100_000] * 4}),
        ("crnn", {"hidden": 1_000_000}),
        ("crnn", {"layers": 1_000_000}),
        ("crnn", {"blank_bias": 1e308}),
        ("cnn_transformer", {"feedforward": 1_000_000}),
        ("cnn_transformer", {"layers": 1_000_000}),
        ("cnn_transformer", {"dimension": 2**31 - 8}),
        ("dummy", {"rank": 0}),
        ("hog_svc", {"ridge": 1e-6}),
        ("hog_svc", {"ridge": 2.0}),
        ("hog_svc", {"cosines": 8001}),
    ],
)
def test_absurd_parameters_are_refused_at_once(model: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^params\.yaml: models\.{model}") as caught:
        build_recogniser(model, SPEC, parameters)
    assert str(caught.value).isprintable()


def test_weights_that_cannot_be_downloaded_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_recogniser("effnet_b1", SPEC, {"pretrained": True})
    assert isinstance(model, NeuralRecogniser)

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"effnet_b1\.pretrained: .* cannot be fetched \(ConnectionError\)"):
        model.warm_start(model.network)
