"""The segmenter: always an allowed number of characters, for any image; and the models that use it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from captchabench.errors import InputError
from captchabench.models import build_recogniser, load_recogniser
from captchabench.models.char_cnn import CharCnn, Config
from captchabench.models.segmentation.ink import otsu_thresholds
from captchabench.models.segmentation.lines import Segmenter, cut_columns, equal_cells
from captchabench.models.segmentation.windows import best_centres, start_scores
from captchabench.samples.shards import Samples
from tests.budgets import few_steps

MakeSamples = Callable[..., Samples]


def fitted(samples: Samples) -> Segmenter:
    segmenter = Segmenter(samples.info.spec)
    segmenter.fit(samples.pixels, samples.labels)
    return segmenter


def test_characters_are_found_where_they_were_written(make_samples: MakeSamples) -> None:
    samples = make_samples(120)
    segments = fitted(samples).segment(samples.pixels)
    assert (segments.lengths == 4).all()
    assert segments.crops.shape == (120, 4, 32, 24)
    assert segments.crops.dtype == np.uint8
    # The text is written at x = 6 + 22 k, each digit about 13 px wide.
    centres = segments.spans.mean(axis=2)
    written = 6 + 22 * np.arange(4) + 6.5
    assert np.abs(centres - written).max(axis=1).mean() < 4


def test_labels_place_the_same_number_of_characters(make_samples: MakeSamples) -> None:
    samples = make_samples(60, lengths=(3, 5))
    segments = fitted(samples).segment(samples.pixels, samples.labels)
    assert segments.lengths.tolist() == [len(label) for label in samples.labels]
    beyond = np.arange(5) >= segments.lengths[:, None]
    assert not segments.crops[beyond].any()


def test_an_unknown_length_is_estimated(make_samples: MakeSamples) -> None:
    samples = make_samples(200, lengths=(3, 5))
    segments = fitted(samples).segment(samples.pixels)
    assert ((segments.lengths >= 3) & (segments.lengths <= 5)).all()


@pytest.mark.parametrize(
    "image",
    [
        np.full((32, 100), 255, np.uint8),
        np.zeros((32, 100), np.uint8),
        np.eye(32, 100, dtype=np.uint8) * 255,
        np.random.default_rng(0).integers(0, 256, (32, 100), dtype=np.uint8),
        np.where(np.arange(3200).reshape(32, 100) == 1650, 0, 255).astype(np.uint8),
    ],
    ids=["white", "black", "diagonal", "noise", "one speck"],
)
def test_any_image_gives_the_expected_number_of_crops(image: NDArray[np.uint8], make_samples: MakeSamples) -> None:
    segments = fitted(make_samples(40)).segment(np.stack([image, 255 - image]))
    assert segments.lengths.tolist() == [4, 4]
    assert np.isfinite(segments.spans).all()


def test_light_text_on_dark_is_found_like_dark_on_light(make_samples: MakeSamples) -> None:
    samples = make_samples(80)
    segmenter = fitted(samples)
    dark = segmenter.segment(samples.pixels[:20]).spans.mean(axis=2)
    light = segmenter.segment(255 - samples.pixels[:20]).spans.mean(axis=2)
    assert np.abs(dark - light).mean() < 3


def test_equal_cells_share_the_width() -> None:
    assert equal_cells(2, 4, 100).tolist() == [[0, 25, 50, 75, 100]] * 2


def test_cuts_fall_between_blocks_of_ink() -> None:
    line = np.zeros((1, 32, 80), np.uint8)
    for start in (5, 25, 45, 65):
        line[0, 8:24, start : start + 10] = 255
    cuts = cut_columns(line, 4, 20.0)[0]
    for cut, (left, right) in zip(cuts[1:-1], [(15, 25), (35, 45), (55, 65)], strict=True):
        assert left <= cut <= right


def test_otsu_separates_two_levels() -> None:
    levels = np.full((1, 8, 8), 40, np.uint8)
    levels[:, :3] = 200
    threshold = int(np.asarray(otsu_thresholds(levels)).ravel()[0])
    assert 40 <= threshold < 200


@pytest.mark.parametrize("name", ["hog_svc", "char_cnn"])
def test_a_damaged_segmenter_is_refused(name: str, make_samples: MakeSamples, tmp_path: Path) -> None:
    samples = make_samples(40)
    parameters = {"training": {"steps": 1, "batch_size": 8}} if name == "char_cnn" else {}
    model = build_recogniser(name, samples.info.spec, parameters)
    model.fit(samples, samples, seed=0)
    model.save(tmp_path, samples.info, fold=0)
    np.savez(tmp_path / "segmenter.npz", ground=np.array([object()], dtype=object))
    with pytest.raises(InputError, match=r"segmenter\.npz"):
        load_recogniser(tmp_path)
    (tmp_path / "segmenter.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"segmenter\.npz"):
        load_recogniser(tmp_path)


def test_hog_svc_reads_what_it_was_trained_on(make_samples: MakeSamples) -> None:
    samples = make_samples(100)
    model = build_recogniser("hog_svc", samples.info.spec, {})
    model.fit(samples, samples, seed=0)
    reading = model.predict(samples.pixels)
    assert np.mean(np.array(reading.texts, object) == samples.labels) >= 0.95
    unseen = make_samples(100, seed=1)
    assert np.mean(np.array(model.predict(unseen.pixels).texts, object) == unseen.labels) >= 0.8


def test_hog_svc_caps_its_training_characters(make_samples: MakeSamples) -> None:
    samples = make_samples(100)
    model = build_recogniser("hog_svc", samples.info.spec, {"max_characters": 80})
    assert model.fit(samples, samples, seed=0)[0].validation_exact > 0.3


def test_the_start_of_lines_is_learned() -> None:
    centres = np.array([[20, 31, 42], [21, 32, 43], [19, 30, 41], [20, 31, 42]])
    starts = start_scores(centres, 60)
    assert starts.argmax() == 20
    assert starts[18] > starts[25] > starts[31]
    # The last two peaks are one wide character. Without the starts, they displace the first character.
    scores = np.zeros((1, 60), np.float32)
    scores[0, [20, 31, 39, 46]] = [0.9, 0.9, 1.0, 1.0]
    assert best_centres([scores] * 3, 11.0)[0].tolist() == [[31, 39, 46]]
    assert best_centres([scores] * 3, 11.0, starts)[0][0, 0] == 20


def test_char_cnn_reads_each_crop_by_itself(make_samples: MakeSamples) -> None:
    samples = make_samples(4)
    encoder = CharCnn(samples.info.spec, Config(channels=(4, 4, 4, 4))).network.encoder.eval()
    row = torch.randn(1, 1, 32, 96)
    other = row.clone()
    other[..., 24:] = 3 * torch.randn(1, 1, 32, 72)
    here, there = encoder(row), encoder(other)
    torch.testing.assert_close(here[:, 0], there[:, 0])
    assert not torch.allclose(here[:, 1], there[:, 1])
    # Contrast and level of a crop have no effect, and flat crops stay flat.
    torch.testing.assert_close(encoder(5 * row + 2), here, atol=0.2, rtol=0.2)
    assert encoder(torch.full((1, 1, 32, 96), 0.3)).isfinite().all()


@pytest.mark.parametrize("name", ["hog_svc", "char_cnn"])
@pytest.mark.parametrize("kind", ["blank", "equal"])
def test_images_without_characters_to_find_are_an_error(name: str, kind: str, make_samples: MakeSamples) -> None:
    samples = make_samples(40)
    samples = replace(
        samples, pixels=np.full_like(samples.pixels, 255) if kind == "blank" else samples.pixels[[0] * 40]
    )
    model = build_recogniser(name, samples.info.spec, few_steps(name))
    with pytest.raises(InputError, match="no characters can be found in the training images: they are blank or all eq"):
        model.fit(samples, samples, seed=0)


def test_characters_that_are_too_alike_are_an_error(make_samples: MakeSamples) -> None:
    samples = make_samples(40)
    # One other image is enough to find characters, but not to distinguish them.
    samples = replace(samples, pixels=samples.pixels[[0, 1, *[0] * 38]])
    model = build_recogniser("hog_svc", samples.info.spec, {})
    with pytest.raises(InputError, match=r"characters .* are too alike; check .*, or raise models\.hog_svc\.ridge"):
        model.fit(samples, samples, seed=0)
    build_recogniser("hog_svc", samples.info.spec, {"ridge": 1.0}).fit(samples, samples, seed=0)
