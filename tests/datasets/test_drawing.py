"""The parts that stand-ins are drawn with."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captchabench.datasets.drawing import encode, strokes, warps
from captchabench.datasets.drawing.dice import dice
from captchabench.datasets.drawing.glyphs import Face, font, glyph, paste, widened
from captchabench.errors import InputError

FACE = Face("font_source_sans_pro", "SourceSansPro-Regular.ttf")
SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.integers(0, 2**32 - 1), st.sampled_from(["L", "LA", "P"]))
def test_png_preserves_the_pixels(height: int, width: int, seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 2) if mode == "LA" else (height, width), dtype=np.uint8)
    palette = rng.bytes(768) if mode == "P" else b""
    encoded = encode.png(pixels, palette)
    image = Image.open(io.BytesIO(encoded))
    assert image.mode == mode
    assert np.array_equal(np.asarray(image), pixels)
    if mode == "P":
        colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        assert np.array_equal(np.asarray(image.convert("RGB")), colours[pixels])
    if mode == "L":
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        assert np.array_equal(decoded, pixels)


def test_png_refuses_images_that_do_not_fit_one_block() -> None:
    encode.png(np.zeros((255, 256), np.uint8))
    with pytest.raises(ValueError, match="65792 bytes"):
        encode.png(np.zeros((256, 256), np.uint8))


@given(SIDES, SIDES, SIDES, SIDES, st.integers(-60, 60), st.integers(-60, 60))
def test_paste_cuts_off_parts_outside_the_canvas(height: int, width: int, h: int, w: int, x: int, y: int) -> None:
    rng = np.random.default_rng(height * width)
    canvas = rng.integers(0, 256, (height, width), dtype=np.uint8)
    mask = rng.integers(0, 256, (h, w), dtype=np.uint8)
    wide = np.zeros((height + 240, width + 240), np.uint8)
    wide[120 : 120 + height, 120 : 120 + width] = canvas
    target = wide[120 + y : 120 + y + h, 120 + x : 120 + x + w]
    target[:] = np.maximum(target, mask)
    paste(canvas, mask, x, y)
    assert np.array_equal(canvas, wide[120 : 120 + height, 120 : 120 + width])


def test_a_glyph_stands_on_its_baseline() -> None:
    tall, descending = glyph(FACE, 40, "H"), glyph(FACE, 40, "p")
    assert tall.top + tall.mask.shape[0] == 0
    assert descending.top + descending.mask.shape[0] > 5
    assert tall.mask.max() == 255
    assert tall.left > 0
    assert tall.left + tall.width < tall.advance
    assert glyph(FACE, 40, " ").mask.size == 0
    assert glyph(FACE, 40, "H") is tall
    with pytest.raises(ValueError, match="read-only"):
        tall.mask[0, 0] = 1


def test_a_widened_glyph_keeps_its_height_and_scales_the_rest() -> None:
    usual, wide = glyph(FACE, 40, "m"), widened(FACE, 40, "m", 150)
    assert (wide.mask.shape[0], wide.top) == (usual.mask.shape[0], usual.top)
    assert (wide.width, wide.left, wide.advance) == tuple(
        n * 150 // 100 for n in (usual.width, usual.left, usual.advance)
    )
    assert wide.mask.sum(dtype=int) == pytest.approx(1.5 * usual.mask.sum(dtype=int), rel=0.02)
    assert np.array_equal(widened(FACE, 40, "m", 100).mask, usual.mask)
    with pytest.raises(ValueError, match="read-only"):
        wide.mask[0, 0] = 1


def test_a_face_of_capitals_draws_lower_case_as_capitals() -> None:
    capitals = replace(FACE, capitals=True)
    assert np.array_equal(glyph(capitals, 40, "g").mask, glyph(FACE, 40, "G").mask)
    assert not np.array_equal(glyph(FACE, 40, "g").mask, glyph(FACE, 40, "G").mask)


@pytest.mark.parametrize("face", [Face("font_of_nobody", "A.ttf"), Face("font_source_sans_pro", "A.ttf")])
def test_a_missing_font_is_named(face: Face) -> None:
    with pytest.raises(InputError, match=r"^font-[a-z-]+: the font A.ttf is not installed; run `[^`]+`$"):
        font(face, 10)


@pytest.mark.parametrize("width", [1.8, 2.7, 3.6])
@pytest.mark.parametrize("drop", [0, 25])
def test_curves_have_the_given_width(width: float, drop: int) -> None:
    canvas = np.zeros((60, 120), np.uint8)
    ys = (15, 15 + drop // 3, 15 + 2 * drop // 3, 15 + drop)
    strokes.curve(canvas, (10, 40, 70, 100), ys, (round(width * 16),))
    across = canvas[:, 30:80].sum(axis=0).mean() / 255 * np.cos(np.arctan2(drop, 90))
    assert across == pytest.approx(width, abs=0.45)  # antialiasing is coarse
    assert not canvas[:, :8].any()
    assert not canvas[:, 103:].any()


def test_curves_go_from_the_first_point_to_the_last_and_get_thinner() -> None:
    canvas = np.zeros((60, 120), np.uint8)
    strokes.curve(canvas, (10, 40, 70, 110), (50, 0, 0, 50), (80, 30))
    assert canvas[46:50, 10:14].max() == 255
    assert canvas[46:50, 106:110].max() == 255
    assert canvas[:8].sum() == 0  # the curve rises to three quarters of its control points' height
    assert (canvas[:, 20] > 127).sum() > 1.5 * (canvas[:, 100] > 127).sum()


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("steep", [False, True])
def test_jagged_lines_have_hard_edges_and_exact_width(width: int, steep: bool) -> None:
    canvas = np.zeros((60, 60), np.uint8)
    start, end = ((20, 5), (30, 50)) if steep else ((5, 20), (50, 30))
    strokes.jagged(canvas, start, end, width, 9)
    across = (canvas[6:49] if steep else canvas.T[6:49]) > 0
    assert (across.sum(axis=1) == width).all()
    assert set(np.unique(canvas)) == {0, 9}


def test_warps_move_by_fractions_of_a_pixel() -> None:
    image = np.zeros((8, 8), np.uint8)
    image[3, 3] = 200
    y, x = np.mgrid[:8, :8] * warps.STEPS
    assert np.array_equal(warps.warp(image, warps.split(x, y)), image)
    moved = warps.warp(image, warps.split(x + warps.STEPS, y - 2 * warps.STEPS))
    assert moved[5, 2] == 200
    assert moved.sum() == 200
    halved = warps.warp(image, warps.split(x + warps.STEPS // 2, y))
    assert halved[3, 2] == halved[3, 3] == 100
    assert (warps.warp(image, warps.split(x - 100 * warps.STEPS, y), (7,)) == 7).all()


def test_turning_and_waves() -> None:
    assert warps.turn(0) == (warps.UNIT, 0)
    assert warps.turn(90) == (0, warps.UNIT)
    wave = warps.wave(warps.PERIOD // 4, 64)
    assert wave[0] == 64
    assert wave[warps.PERIOD // 2] == -64
    assert abs(int(wave.sum())) <= warps.PERIOD


def test_dice_are_uniform() -> None:
    roll = dice(np.random.default_rng(0))
    counts = np.bincount([roll(6) for _ in range(6000)], minlength=6)
    assert len(counts) == 6
    assert abs(counts - 1000).max() < 120  # four standard deviations
    assert roll(1) == 0
