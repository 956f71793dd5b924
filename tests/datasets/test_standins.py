"""Stand-ins: size, labels, and equal bytes from equal generators."""

import hashlib
import io
from collections import Counter

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captchabench.datasets import DATASETS, fournierp, parsasam, vtu
from captchabench.datasets.base import Drawing
from captchabench.datasets.drawing.dice import dice
from captchabench.datasets.drawing.glyphs import glyph

NAMES = [name for name in DATASETS.names() if DATASETS[name].task == "text"]
SIZES = {"fournierp": (200, 50), "numbers6": (150, 50), "parsasam": (150, 40), "vtu": (160, 75)}

# Hashes of the first five drawings from seed 0. They change with the drawing code, and may change with a version in the
# lock file (the fonts, Pillow's FreeType, OpenCV). Then look at `python -m benchmarks.draw_standins --sheet FILE`, put
# the new value here, and raise `version` of the dataset, since results on other images are not comparable.
PIXELS = {
    "fournierp": "8d16922a570d46d3",
    "numbers6": "a2c1903c4ae1fc41",
    "parsasam": "5ce05dbebb9df58a",
    "vtu": "ac5805afc2a76918",
}


def draw_some(name: str, seed: int, count: int) -> list[Drawing]:
    rng = np.random.default_rng(seed)
    return [DATASETS[name].draw(rng) for _ in range(count)]


def decode(drawing: Drawing) -> Image.Image:
    return Image.open(io.BytesIO(drawing.encoded)).convert("RGBA")


def pixel_hash(name: str) -> str:
    """The hash of the first five drawings from seed 0, for PIXELS."""
    pixels = b"".join(decode(d).tobytes() for d in draw_some(name, 0, 5))
    return hashlib.sha256(pixels).hexdigest()[:16]


def grey_on_white(drawing: Drawing) -> NDArray[np.uint8]:
    image = decode(drawing)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("L"))


@pytest.mark.parametrize("name", NAMES)
def test_size_format_and_label(name: str) -> None:
    dataset = DATASETS[name]
    for drawing in draw_some(name, 1, 200):
        assert not dataset.alphabet.foreign(drawing.label)
        assert dataset.min_length <= len(drawing.label) <= dataset.max_length
        assert dataset.label_of(drawing.label) == drawing.label
        image = Image.open(io.BytesIO(drawing.encoded))
        assert image.size == SIZES.get(name, image.size)
        assert image.format == {"png": "PNG", "jpg": "JPEG"}[drawing.suffix]


@pytest.mark.parametrize("name", NAMES)
def test_opencv_and_pillow_read_the_same_pixels(name: str) -> None:
    for drawing in draw_some(name, 2, 20):
        pixels = cv2.imdecode(np.frombuffer(drawing.encoded, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        assert pixels.shape[1::-1] == decode(drawing).size
        if drawing.suffix == "png":
            image = np.asarray(decode(drawing))
            alpha = pixels[..., 3] if pixels.shape[2:] == (4,) else np.full(pixels.shape[:2], 255)
            assert np.array_equal(alpha, image[..., 3])
            first = pixels if pixels.ndim == 2 else pixels[..., 2]
            assert np.array_equal(first, image[..., 0])


@pytest.mark.parametrize("name", NAMES)
def test_equal_generators_give_equal_bytes(name: str) -> None:
    # In the second run all glyphs and maps are in the caches.
    assert draw_some(name, 3, 20) == draw_some(name, 3, 20)


@pytest.mark.parametrize("name", NAMES)
def test_different_generators_give_different_images(name: str) -> None:
    drawings = draw_some(name, 4, 50) + draw_some(name, 5, 50)
    assert len({d.encoded for d in drawings}) == 100
    assert len({d.label for d in drawings}) > 95


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_the_same_on_every_machine(name: str) -> None:
    assert pixel_hash(name) == PIXELS[name]


@pytest.mark.parametrize("name", NAMES)
def test_opencv_threads_change_nothing(name: str) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        single = draw_some(name, 6, 10)
        cv2.setNumThreads(4)
        assert draw_some(name, 6, 10) == single
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("name", NAMES)
def test_every_symbol_is_drawn(name: str) -> None:
    drawn = Counter("".join(d.label for d in draw_some(name, 7, 500)))
    assert set(drawn) == set(DATASETS[name].alphabet.symbols)


def test_n_is_twice_as_frequent_in_fournierp() -> None:
    drawn = Counter("".join(d.label for d in draw_some("fournierp", 8, 1500)))
    others = (drawn.total() - drawn["n"]) / (len(drawn) - 1)
    assert 1.75 < drawn["n"] / others < 2.25  # within three standard deviations


def test_fournierp_has_a_wide_and_a_narrow_m() -> None:
    roll = dice(np.random.default_rng(13))
    widths = sorted(fournierp._letter("m", roll).width for _ in range(200))
    narrow, wide = widths[:80], widths[-80:]
    assert max(narrow) < 0.8 * min(wide)
    # The original's `n` is about as wide as its narrow `m`.
    assert np.median(narrow) < 1.3 * np.median([fournierp._letter("n", roll).width for _ in range(200)])


def test_some_images_of_numbers6_are_transparent() -> None:
    drawings = draw_some("numbers6", 9, 300)
    transparent = [d for d in drawings if np.asarray(decode(d))[..., 3].min() == 0]
    assert 10 < len(transparent) < 60
    for drawing in transparent:
        assert not np.asarray(decode(drawing))[..., :3].any()
        assert grey_on_white(drawing).max() == 255


def test_vtu_shares_one_background() -> None:
    stack = np.stack([np.asarray(decode(d).convert("RGB")) for d in draw_some("vtu", 10, 60)])
    background = np.frombuffer(vtu._palette(), np.uint8).reshape(-1, 3)[vtu._cloud()]
    assert (stack == background).all(axis=-1).mean() > 0.75
    # All other pixels are between the background and the word's grey.
    low, high = np.minimum(background, 102), np.maximum(background, 102)
    assert ((stack >= low) & (stack <= high)).all()


def test_the_text_is_inside_the_image() -> None:
    for drawing in draw_some("vtu", 11, 100):
        assert (np.asarray(decode(drawing))[..., :3] == 102).all(axis=-1).sum() > 300
    for name in ("fournierp", "numbers6"):
        for drawing in draw_some(name, 12, 100):
            assert (grey_on_white(drawing) < 64).mean() > 0.05


@pytest.mark.parametrize("degrees", [-8, 8])
def test_turning_loses_no_ink(degrees: int) -> None:
    for style in parsasam._STYLES:
        for symbol in DATASETS["parsasam"].alphabet.symbols:
            level = glyph(style.face, style.size, symbol).mask.sum(dtype=int) * style.widened / 100
            turned = parsasam._turned(style, style.size, symbol, degrees).mask.sum(dtype=int)
            assert turned == pytest.approx(level, rel=0.03)


def test_some_symbols_of_parsasam_look_alike() -> None:
    capitals = next(style for style in parsasam._STYLES if style.face.capitals)
    alike = next(style for style in parsasam._STYLES if style.face.file.startswith("Manrope"))
    ell, capital_i = (parsasam._turned(alike, alike.size, symbol, 0).mask for symbol in "lI")
    # Their heights can differ by a pixel, less than letters of different sizes do.
    assert ell.shape[1] == capital_i.shape[1]
    assert abs(ell.shape[0] - capital_i.shape[0]) <= 1
    low, high = (parsasam._turned(capitals, capitals.size, symbol, 0).mask for symbol in "eE")
    assert np.array_equal(low, high)
