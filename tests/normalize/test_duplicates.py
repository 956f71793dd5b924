"""Perceptual hashes: copies are near, distinct images are not, and the search finds every near pair."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from captchabench.datasets import DATASETS
from captchabench.normalize import duplicates
from captchabench.normalize.duplicates import (
    COARSE_BITS,
    FINE_BITS,
    duplicate_groups,
    hash_images,
    near_pairs,
    without_plain,
)
from captchabench.normalize.images import decode_grey

SIZE = (100, 32)


def perceptual_hashes(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes [N, 4] uint64 of images [N, H, W], including their outermost pixels."""
    return duplicates._windowed_hashes(pixels, 0, [(0, 0)])[:, 0]


def drawn(key: str, count: int) -> list[NDArray[np.uint8]]:
    draw = DATASETS[key].draw
    return [decode_grey(draw(np.random.default_rng([9, n])).encoded) for n in range(count)]


def hashes_of(images: list[NDArray[np.uint8]]) -> NDArray[np.uint64]:
    return perceptual_hashes(np.stack([cv2.resize(i, SIZE, interpolation=cv2.INTER_AREA) for i in images]))


def near(a: NDArray[np.uint64], b: NDArray[np.uint64], coarse_bits: int = COARSE_BITS) -> NDArray[np.bool_]:
    coarse: NDArray[np.uint8] = np.bitwise_count(a[..., 0] ^ b[..., 0])
    close: NDArray[np.bool_] = np.bitwise_count(a ^ b).sum(-1) <= FINE_BITS
    return (coarse <= coarse_bits) & close


def moved(image: NDArray[np.uint8], x: int, y: int, border: int = cv2.BORDER_REPLICATE) -> NDArray[np.uint8]:
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    result: NDArray[np.uint8] = cv2.warpAffine(image, shift, image.shape[::-1], borderMode=border)
    return result


def encoded_again(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image after encoding as JPEG of quality 75."""
    decoded: NDArray[np.uint8] | None = cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE
    )
    assert decoded is not None
    return decoded


@pytest.mark.parametrize("key", ["fournierp", "numbers6", "parsasam", "vtu"])
def test_copies_are_near_and_distinct_images_are_not(key: str) -> None:
    images = drawn(key, 200)
    hashes = hashes_of(images)
    assert near(hashes, hashes_of([encoded_again(image) for image in images])).all()
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert near(hashes, hashes_of([moved(i, *step) for i in images])).mean() > 0.9
    assert near(hashes[:, None], hashes[None]).sum() == len(images)
    assert len(set(duplicate_groups(hashes[:, None]))) == len(images)


@pytest.mark.parametrize("key", ["fournierp", "numbers6", "parsasam", "vtu"])
@pytest.mark.parametrize("border", [cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT])
def test_a_copy_moved_by_one_pixel_is_in_the_group_of_its_image(key: str, border: int) -> None:
    images = [cv2.resize(i, SIZE, interpolation=cv2.INTER_AREA) for i in drawn(key, 60)]
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        copies = [moved(i, *step, border) for i in images]
        groups = duplicate_groups(hash_images(np.stack([*images, *copies])))
        assert (groups[:60] == groups[60:]).all()
        assert len(set(groups)) == 60


def test_a_hash_does_not_depend_on_the_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 32, 100), dtype=np.uint8)
    together = perceptual_hashes(pixels)
    for n in (0, 33, 69):
        np.testing.assert_array_equal(perceptual_hashes(pixels[n : n + 1])[0], together[n])


def test_hashes_of_moved_images_are_hashes_of_windows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 50), dtype=np.uint8)
    windows = pixels[:, 1:-1, 1:-1], pixels[:, 1:-1, :-2], pixels[:, :-2, 1:-1]
    expected = np.stack([perceptual_hashes(window) for window in windows], axis=1)
    np.testing.assert_array_equal(hash_images(pixels), expected)


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(8, 8), (32, 100), (64, 200), (33, 17)])
def test_hashes_of_flat_images_are_zero(grey: int, shape: tuple[int, int]) -> None:
    assert not perceptual_hashes(np.full((1, *shape), grey, np.uint8)).any()


def test_no_images_have_no_hashes_and_no_groups() -> None:
    assert perceptual_hashes(np.empty((0, 32, 100), np.uint8)).shape == (0, 4)
    assert hash_images(np.empty((0, 32, 100), np.uint8)).shape == (0, 3, 4)
    assert len(duplicate_groups(np.empty((0, 3, 4), np.uint64))) == 0


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 14), st.integers(0, 40), st.integers(0, COARSE_BITS))
@settings(max_examples=60)
def test_the_search_finds_exactly_the_near_pairs(seed: int, count: int, coarse: int, fine: int, bound: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.random((count, 256)) < rng.random(256)
    copies = bits.copy()
    for row in copies:
        row[rng.choice(64, coarse, replace=False)] ^= True
        row[64 + rng.choice(192, fine, replace=False)] ^= True
    every = np.unique(np.packbits(np.concatenate([bits, copies]), axis=1).view(np.uint64), axis=0)
    expected = np.nonzero(np.triu(near(every[:, None], every[None], bound), 1))
    np.testing.assert_array_equal(np.stack(near_pairs(every, bound)), np.stack(expected))


def test_the_size_of_batches_does_not_change_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 4, (300, 4), dtype=np.uint64), axis=0)
    whole = np.stack(near_pairs(hashes))
    assert whole.shape[1] > 1000
    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", 100)
    np.testing.assert_array_equal(np.stack(near_pairs(hashes)), whole)


@pytest.mark.timeout(240)
def test_a_hundred_thousand_equal_images_are_one_group() -> None:
    hashes = np.tile(np.array([[[1, 2, 3, 4]]], np.uint64), (100_000, 1, 1))
    assert set(duplicate_groups(hashes)) == {0}


def test_chains_of_near_images_are_one_group() -> None:
    chain = np.zeros((3, 4), np.uint64)
    chain[1, 1] = (1 << FINE_BITS) - 1
    chain[2, 1:3] = (1 << FINE_BITS) - 1
    assert len(near_pairs(chain)[0]) == 2
    assert len(set(duplicate_groups(chain[:, None]))) == 1


def test_plain_images_of_different_texts_are_no_duplicates() -> None:
    groups = np.array([0] * 12 + [1] * 12 + [2] * 3 + [3])
    # Twelve different texts, of which two images are copies; twelve copies; three images with different labels.
    labels = [*"abcdefghijk", "a", *"x" * 12, *"lmn", "o"]
    found = without_plain(groups, labels)
    assert sorted(set(found)) == list(range(14))
    assert found[0] == found[11]
    assert len(set(found[:11])) == 11
    assert len(set(found[12:24])) == 1
    assert len(set(found[24:27])) == 1
    assert len(without_plain(np.empty(0, np.int64), [])) == 0
