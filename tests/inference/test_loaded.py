"""Trained models on images of any size and format."""

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import captchabench
from captchabench.alphabet import Alphabet
from captchabench.config import NormalizeParams
from captchabench.inference.images import Limits, Unreadable, decode
from captchabench.inference.loaded import load_recogniser, read_about
from captchabench.networks.alternatives import likeliest_texts
from captchabench.networks.ctc import ctc_losses
from captchabench.networks.heads import CTCNetwork, Decoding, PositionNetwork
from captchabench.normalize.images import create_clahe, decode_grey, fit
from captchabench.normalize.rejects import Reason
from captchabench.samples.shards import TextSpec

EVERY = pytest.mark.parametrize("name", ["char_cnn", "crnn", "dummy", "hog_svc"])
Models = Callable[[str], Path]


@EVERY
def test_reads_what_normalisation_would_make_of_the_image(name: str, models: Models, pictures: list[bytes]) -> None:
    loaded = captchabench.load_recogniser(models(name))
    params = NormalizeParams(32, 100, "pad", clahe=True)
    pixels = np.stack([fit(decode_grey(picture), params, create_clahe(params)) for picture in pictures])
    wanted = loaded.recogniser.predict(pixels)
    read = loaded.predict(pictures)
    assert [p.text for p in read] == wanted.texts
    np.testing.assert_allclose([p.confidence for p in read], wanted.confidences, rtol=1e-6)
    assert loaded.predict([]) == []


@EVERY
def test_says_what_it_was_trained_on(name: str, models: Models) -> None:
    about = read_about(models(name))
    assert about == load_recogniser(models(name)).about
    assert (about.model, about.dataset, about.version, about.fold) == (name, "numbers6", 3, 2)
    assert (about.height, about.width, about.resize, about.clahe) == (32, 100, "pad", True)
    assert about.parameter_count == load_recogniser(models(name)).recogniser.parameter_count


def test_an_image_is_the_same_in_any_wrapping(models: Models, pictures: list[bytes], tmp_path: Path) -> None:
    loaded = load_recogniser(models("hog_svc"))
    path = tmp_path / "a.png"
    path.write_bytes(pictures[0])
    opened = Image.open(io.BytesIO(pictures[0]))
    array = np.asarray(opened)
    opaque = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    grey = decode(pictures[0])
    read = loaded.predict([pictures[0], path, str(path), opened, array, opaque, grey])
    assert len(set(read)) == 1


@settings(max_examples=20)
@given(order=st.permutations(range(12)), cuts=st.sets(st.integers(1, 11), max_size=4))
@pytest.mark.parametrize("name", ["crnn", "hog_svc"])
def test_neighbours_in_a_batch_change_no_text(
    name: str, models: Models, pictures: list[bytes], order: list[int], cuts: set[int]
) -> None:
    loaded = _once(models(name))
    pixels = loaded.stack(map(decode, pictures[:12]))
    together = [p.text for p in loaded.read(pixels)]
    apart = [p.text for part in np.split(pixels[order], sorted(cuts)) for p in loaded.read(part)]
    assert apart == [together[i] for i in order]


@EVERY
def test_alternatives_are_the_likeliest_texts(name: str, models: Models, pictures: list[bytes]) -> None:
    for prediction in load_recogniser(models(name)).predict(pictures[:6], top_k=4):
        texts = [a.text for a in prediction.alternatives]
        scores = [a.probability for a in prediction.alternatives]
        assert len(set(texts)) == len(texts)
        assert len(texts) == 4 or name in ("dummy", "crnn")
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) <= 1.0001
        # Greedy decoding may miss the most probable text, but cannot find a more probable one.
        assert scores[0] >= prediction.confidence * 0.999
        if name != "crnn":
            assert texts[0] == prediction.text
            assert scores[0] == pytest.approx(prediction.confidence, rel=1e-4)
        else:
            assert {len(text) for text in texts} == {6}


@pytest.mark.parametrize("prior", [False, True])
def test_ctc_alternatives_are_those_of_all_texts(prior: bool) -> None:
    spec = TextSpec(Alphabet("ab"), 1, 2, 8, 8)
    log_probs = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(dim=2)
    network = CTCNetwork(spec, _Columns(4), blank_bias=0.0, decoding=Decoding("beam", 16, prior))
    ids_by_row, totals = network.alternatives(log_probs, 3)
    sizes = range(spec.min_length, spec.max_length + 1) if prior else range(5)
    every = [text for size in sizes for text in itertools.product(range(2), repeat=size)]
    for row in range(5):
        scores = {}
        for text in every:
            target = torch.tensor([[*text, *[-1] * (4 - len(text))]])
            scores[text] = -float(ctc_losses(log_probs[row : row + 1], target, torch.tensor([len(text)])))
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:3]
        unique = dict.fromkeys(tuple(i for i in ids.tolist() if i >= 0) for ids in ids_by_row[row])
        assert list(unique)[:3] == best
        assert float(totals[row, 0]) == pytest.approx(scores[best[0]], abs=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 9))
def test_likeliest_texts_are_those_of_all_texts(seed: int, length: int, count: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(3), (2, length))).astype(np.float32)
    ids, scores = likeliest_texts(log_probs, count)
    for row in range(2):
        every = sorted(
            (sum(log_probs[row, place, i] for place, i in enumerate(word)) for word in np.ndindex(*[3] * length)),
            reverse=True,
        )[:count]
        np.testing.assert_allclose(scores[row], every, rtol=1e-4, atol=1e-5)
        spelled = [sum(log_probs[row, place, i] for place, i in enumerate(word)) for word in ids[row]]
        np.testing.assert_allclose(spelled, every, rtol=1e-4, atol=1e-5)


def test_cells_that_spell_one_text_are_one_alternative() -> None:
    spec = TextSpec(Alphabet("ab"), 1, 2, 8, 8)
    network = PositionNetwork(spec, _Columns(2))
    # The last class means "no character": a- and -a both spell a.
    log_probs = torch.tensor([[[0.5, 0.1, 0.4], [0.5, 0.1, 0.4]]]).log()
    texts, scores = network.alternatives(log_probs, 2)
    spelled = [tuple(i for i in row.tolist() if i >= 0) for row in texts[0]]
    assert spelled[:3] == [(0, 0), (0,), (0,)]
    assert float(scores[0, 0].exp()) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("name", "kind"), [("crnn", "time steps"), ("char_cnn", "characters"), ("hog_svc", "characters")]
)
def test_an_explanation_follows_the_reading(name: str, kind: str, models: Models, pictures: list[bytes]) -> None:
    loaded = load_recogniser(models(name))
    for picture, explained in zip(pictures[:3], loaded.explain(pictures[:3]), strict=True):
        alone = loaded.predict([picture])[0]
        assert explained.prediction.confidence == pytest.approx(alone.confidence, abs=1e-5)
        assert replace(explained.prediction, confidence=alone.confidence) == alone
        np.testing.assert_array_equal(explained.grey, decode(picture))
        np.testing.assert_array_equal(explained.picture, loaded.prepare(decode(picture)))
        steps = explained.steps.steps
        assert explained.steps.kind == kind
        assert all(0 < step.probability <= 1.0001 for step in steps)
        if kind == "time steps":
            assert len(steps) == 25
            assert (steps[0].left, steps[-1].right) == (0, 100)
            assert all(a.right == b.left for a, b in itertools.pairwise(steps))
        else:
            assert "".join(step.symbol for step in steps) == explained.prediction.text
            assert np.prod([step.probability for step in steps]) == pytest.approx(
                explained.prediction.confidence, rel=1e-3
            )
            assert all(step.crop is not None and step.crop.shape == (32, 24) for step in steps)
            assert all(a.left < b.left for a, b in itertools.pairwise(steps))


def test_the_dummy_looks_at_nothing(models: Models, pictures: list[bytes]) -> None:
    (explained,) = load_recogniser(models("dummy")).explain(pictures[:1])
    assert (explained.steps.kind, explained.steps.steps) == ("none", ())


@pytest.mark.parametrize(
    ("image", "limits", "reason"),
    [
        (b"", Limits(), Reason.UNDECODABLE),
        (b"GIF89a", Limits(), Reason.UNDECODABLE),
        (Path("no/such.png"), Limits(), Reason.UNDECODABLE),
        (Path("tests"), Limits(), Reason.UNDECODABLE),
        (b"\0" * 11, Limits(size=10), Reason.ABSURD_DIMENSIONS),
    ],
)
def test_what_is_no_image_has_a_reason(image: bytes | Path, limits: Limits, reason: Reason) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(image, limits)
    assert caught.value.reason is reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((4032, 3024), "too large: 4032x3024; at most 4 million pixels"),
        ((4200, 16), "too large: 4200x16; at most 4,096 pixels a side"),
        ((40, 7), "too small: 40x7; at least 8 pixels a side"),
    ],
)
def test_of_what_size_an_image_may_be_is_said(kind: str, size: tuple[int, int], says: str) -> None:
    encoded = io.BytesIO()
    Image.new("L", size).save(encoded, kind)
    with pytest.raises(Unreadable) as caught:
        decode(encoded.getvalue())
    assert caught.value.detail == says
    assert caught.value.reason is Reason.ABSURD_DIMENSIONS


def test_limits_are_kept(pictures: list[bytes], models: Models) -> None:
    assert decode(pictures[0], Limits(pixels=200 * 64)).shape == (64, 200)
    with pytest.raises(Unreadable, match=r"too large: 200x64; at most 0\.012799 million pixels"):
        load_recogniser(models("dummy"), Limits(pixels=200 * 64 - 1)).predict(pictures[:1])
    bad: list[NDArray[Any]] = [np.zeros((20, 20), np.float32), np.zeros((20, 20, 2), np.uint8)]
    for array in (*bad, np.zeros((4, 20), np.uint8)):
        with pytest.raises(Unreadable):
            load_recogniser(models("dummy")).predict([array])


_once = cache(load_recogniser)


class _Columns(torch.nn.Module):
    """An encoder with a given number of output columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_zeros(len(images), self.columns, 3)
