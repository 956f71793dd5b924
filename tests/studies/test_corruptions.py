"""Corruptions: seeded by image, stronger with each strength, of unchanged size and dtype."""

from collections.abc import Callable

import numpy as np
import pytest

from captchabench.samples.shards import Samples
from captchabench.studies.corruptions import CORRUPTIONS, STRENGTHS, corrupt

Make = Callable[..., Samples]


@pytest.fixture
def samples(make_samples: Make) -> Samples:
    return make_samples(12)


def test_each_has_three_strengths() -> None:
    assert all(len(corruption.levels) == len(STRENGTHS) == 3 for corruption in CORRUPTIONS.values())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_does_not_depend_on_its_neighbours_nor_on_their_order(name: str, samples: Samples) -> None:
    together = corrupt(samples.pixels, samples.sample_ids, name, 2)
    assert together.shape == samples.pixels.shape
    assert together.dtype == np.uint8
    order = np.random.default_rng(0).permutation(len(samples))
    np.testing.assert_array_equal(corrupt(samples.pixels[order], samples.sample_ids[order], name, 2), together[order])
    np.testing.assert_array_equal(corrupt(samples.pixels[3:4], samples.sample_ids[3:4], name, 2)[0], together[3])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_image_changes_and_the_more_the_stronger(name: str, samples: Samples) -> None:
    before = samples.pixels.astype(int)
    changes = [
        np.abs(corrupt(samples.pixels, samples.sample_ids, name, strength) - before).mean(axis=(1, 2))
        for strength in STRENGTHS
    ]
    assert (changes[0] > 0).all()
    assert (np.diff([change.mean() for change in changes]) > 0).all()
    np.testing.assert_array_equal(samples.pixels, before)


@pytest.mark.parametrize("name", ["noise", "lines"])
def test_equal_images_of_two_names_differ(name: str, samples: Samples) -> None:
    twice = np.repeat(samples.pixels[:1], 2, axis=0)
    one, other = corrupt(twice, samples.sample_ids[:2], name, 3)
    assert (one != other).any()


def test_contrast_fades_text_from_either_side_and_keeps_the_background(samples: Samples) -> None:
    faded = corrupt(samples.pixels, samples.sample_ids, "contrast", 3).astype(int)
    background = np.median(samples.pixels, axis=(1, 2)).astype(int)
    strength = np.abs(faded - background[:, None, None]).max(axis=1)
    left, right = strength[:, :30].max(axis=1), strength[:, -30:].max(axis=1)
    assert (left > 1.5 * right).any()
    assert (right > 1.5 * left).any()
    assert (np.median(faded, axis=(1, 2)) == background).all()


def test_lines_are_drawn_in_the_grey_of_dark_and_of_light_text(samples: Samples) -> None:
    for pixels in (samples.pixels, 255 - samples.pixels):
        lined = corrupt(pixels, samples.sample_ids, "lines", 3).astype(int)
        background = np.median(pixels)
        is_light = pixels[np.abs(pixels - background) > 20].mean() > background
        change = lined - pixels
        assert (change[np.abs(change) > 20] > 0).mean() == (1.0 if is_light else 0.0)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(8, 8), (40, 150), (64, 200)])
def test_any_size_and_flat_images_pass(name: str, shape: tuple[int, int]) -> None:
    for grey in (0, 255):
        corrupted = corrupt(np.full((2, *shape), grey, np.uint8), ["a", "b"], name, 3)
        assert corrupted.shape == (2, *shape)


def test_an_empty_batch_stays_empty() -> None:
    assert corrupt(np.empty((0, 32, 100), np.uint8), [], "noise", 1).shape == (0, 32, 100)
