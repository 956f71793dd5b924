"""Perceptual hashes: copies are near, distinct images are not, and the search finds every near pair."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.copies import draw, false_groups, found, invert, move
from captchabench.config import NormalizeParams
from captchabench.datasets import DATASETS
from captchabench.normalize import duplicates
from captchabench.normalize.duplicates import (
    COARSE_BITS,
    FINE_BITS,
    WINDOWS,
    duplicate_groups,
    hash_images,
    near_pairs,
)
from captchabench.normalize.images import decode_grey, fit

SIZE = (100, 32)


def perceptual_hashes(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes [N, 4] uint64 of images [N, H, W], including their outermost pixels."""
    return duplicates._windowed_hashes(pixels, 0, [(0, 0)], inverted=False)[:, 0]


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
    assert len(set(duplicate_groups(hashes[:, None], ["same"] * len(images)))) == len(images)


@pytest.mark.parametrize("key", ["fournierp", "numbers6", "parsasam", "vtu"])
@pytest.mark.parametrize("border", [cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT])
def test_a_copy_moved_by_one_pixel_is_in_the_group_of_its_image(key: str, border: int) -> None:
    images = [cv2.resize(i, SIZE, interpolation=cv2.INTER_AREA) for i in drawn(key, 60)]
    labels = [str(n % 15) for n in range(60)]
    for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        copies = [moved(i, *step, border) for i in images]
        groups = duplicate_groups(hash_images(np.stack([*images, *copies])), labels * 2)
        assert (groups[:60] == groups[60:]).all()
        assert len(set(groups)) == 60


def test_a_hash_does_not_depend_on_the_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 32, 100), dtype=np.uint8)
    together = perceptual_hashes(pixels)
    for n in (0, 33, 69):
        np.testing.assert_array_equal(perceptual_hashes(pixels[n : n + 1])[0], together[n])


def test_hashes_of_moved_images_are_hashes_of_windows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 50), dtype=np.uint8)
    windows = [pixels[:, top : top + 18, left : left + 48] for top, left in duplicates._CORNERS]
    windows.append(255 - pixels[:, 1:-1, 1:-1])
    expected = np.stack([perceptual_hashes(window) for window in windows], axis=1)
    np.testing.assert_array_equal(hash_images(pixels), expected)


@pytest.mark.parametrize("grey", [0, 1, 128, 255])
@pytest.mark.parametrize("shape", [(8, 8), (32, 100), (64, 200), (33, 17)])
def test_hashes_of_flat_images_are_zero(grey: int, shape: tuple[int, int]) -> None:
    assert not perceptual_hashes(np.full((1, *shape), grey, np.uint8)).any()


def test_no_images_have_no_hashes_and_no_groups() -> None:
    assert perceptual_hashes(np.empty((0, 32, 100), np.uint8)).shape == (0, 4)
    assert hash_images(np.empty((0, 32, 100), np.uint8)).shape == (0, WINDOWS, 4)
    assert len(duplicate_groups(np.empty((0, WINDOWS, 4), np.uint64), [])) == 0


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
    labels = rng.integers(0, 3, len(every))
    same = labels[:, None] == labels[None]
    i, j = np.nonzero(np.triu(near(every[:, None], every[None], bound) & same, 1))
    bits = np.bitwise_count(every[i] ^ every[j]).sum(-1, dtype=np.int64)
    np.testing.assert_array_equal(np.stack(near_pairs(every, labels, bound)), np.stack([i, j, bits]))


def test_the_size_of_batches_does_not_change_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 4, (300, 4), dtype=np.uint64), axis=0)
    labels = np.zeros(len(hashes), np.int64)
    whole = np.stack(near_pairs(hashes, labels))
    assert whole.shape[1] > 1000
    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", 100)
    np.testing.assert_array_equal(np.stack(near_pairs(hashes, labels)), whole)


@pytest.mark.timeout(240)
def test_a_hundred_thousand_equal_images_are_one_group() -> None:
    hashes = np.tile(np.array([[[1, 2, 3, 4]]], np.uint64), (100_000, 1, 1))
    assert set(duplicate_groups(hashes, ["same"] * len(hashes))) == {0}


def test_chains_of_near_images_are_one_group() -> None:
    chain = np.zeros((3, 4), np.uint64)
    chain[1, 1] = (1 << FINE_BITS) - 1
    chain[2, 1:3] = (1 << FINE_BITS) - 1
    assert len(near_pairs(chain, np.zeros(3, np.int64))[0]) == 2
    assert set(duplicate_groups(chain[:, None], ["same"] * 3)) == {0}


def walk(count: int, step: int) -> NDArray[np.uint64]:
    """`count` hashes [count, 1, 4], each `step` bits from the one before, and further from all others."""
    bits = np.zeros((count, 256), bool)
    for n in range(1, count):
        bits[n:, 64 + n * step - step : 64 + n * step] = True
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)[:, None]


def test_a_long_chain_is_not_one_group() -> None:
    assert len(set(duplicate_groups(walk(5, 30), ["same"] * 5))) == 1
    assert len(set(duplicate_groups(walk(7, 25), ["same"] * 7))) == 7
    # Pairs that are closer still count in a chain.
    chain = np.concatenate([walk(7, 25), walk(7, 25)])
    chain[7:, 0, 3] ^= np.uint64(1 << 63)
    np.testing.assert_array_equal(duplicate_groups(chain, ["same"] * 14), [*range(7), *range(7)])


def test_images_with_different_labels_are_no_copies() -> None:
    hashes = np.tile(np.array([[[1, 2, 3, 4]]], np.uint64), (4, 1, 1))
    np.testing.assert_array_equal(duplicate_groups(hashes, ["ab", "AB", "ab", "AB"]), [0, 1, 0, 1])


def clean(text: str) -> NDArray[np.uint8]:
    """`text` in black on white, upright, at a fixed place, below a logo that all images share."""
    page = np.full((40, 120), 255, np.uint8)
    cv2.rectangle(page, (2, 2), (117, 14), 0, -1)
    cv2.putText(page, text, (14, 36), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 0, 2, cv2.LINE_AA)
    return fit(page, NormalizeParams())


def test_clean_texts_of_one_design_are_no_copies() -> None:
    labels = [f"{n:04d}" for n in range(0, 10_000, 7)]
    hashes = hash_images(np.stack([clean(label) for label in labels]))
    assert len(near_pairs(hashes[:, 0], np.zeros(len(labels), np.int64))[0]) > 100
    assert len(set(duplicate_groups(hashes, labels))) == len(labels)
    # Even as images of one class they form no long chain.
    assert np.bincount(duplicate_groups(hashes, ["same"] * len(labels))).max() < 50


@pytest.mark.parametrize("few", [True, False])
def test_copies_moved_further_and_inverted_ones_are_found(few: bool) -> None:
    images, labels = draw(DATASETS["fournierp"], 60, 7)
    labels = labels if few else ["same"] * 60
    size = NormalizeParams()
    for change in (lambda i: move(i, 2, 2), lambda i: move(i, -2, 2), lambda i: move(i, 2, -1), invert):
        assert found(images, labels, change, size) >= (60 if few else 45)
    assert false_groups(images, labels, size) == 0
