"""Decoding of all formats, rejection of damaged and hostile files, and resizing."""

import contextlib
import io
import struct
import zlib
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, GifImagePlugin, Image, ImageOps, TiffImagePlugin, features

from captchabench.config import NormalizeParams
from captchabench.normalize.images import MAX_SIDE, Repair, decode_grey, fit, read_image, to_grey
from captchabench.normalize.rejects import Reason, Rejected
from tests.made_up import noise


def colours(height: int = 20, width: int = 50) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(cv2.resize(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8), (width, height)))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason(content: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        decode_grey(content)
    assert caught.value.detail
    assert " at 0x" not in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"])
def test_png_modes_agree_with_pillow(mode: str) -> None:
    image = colours().convert("L" if mode == "I;16" else mode)
    expected = np.asarray(image.convert("RGB").convert("L"), int)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    grey = decode_grey(encoded(image, "PNG"))
    assert grey.dtype == np.uint8
    assert np.abs(grey - expected).max() <= 1


@pytest.mark.parametrize("kind", ["BMP", "GIF", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_give_equal_pixels(kind: str) -> None:
    image = colours().convert("L").convert("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode_grey(encoded(image, kind, **options)), decode_grey(encoded(image, "PNG")))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_exif_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(colours(), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("L")
    assert np.abs(decode_grey(content) - np.asarray(expected, int)).max() <= 1


def test_a_cmyk_jpeg_is_read() -> None:
    grey = decode_grey(encoded(colours().convert("CMYK"), "JPEG", quality=95))
    assert np.abs(grey - np.asarray(colours().convert("L"), int)).mean() < 3


def test_a_jpeg_saved_again_as_png_gives_equal_pixels() -> None:
    jpeg = encoded(colours(), "JPEG")
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decode_grey(jpeg), decode_grey(cv2.imencode(".png", pixels)[1].tobytes()))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    image = Image.new(mode, (20, 10), (100, 51) if mode == "LA" else (100, 100, 100, 51))
    assert (decode_grey(encoded(image, "PNG")) == round(100 * 0.2 + 255 * 0.8)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    image = Image.new("L", (20, 10), 40).convert(mode)
    colour = image.getpixel((0, 0))
    assert (decode_grey(encoded(image, "PNG")) == 40).all()
    assert (decode_grey(encoded(image, "PNG", transparency=colour)) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@given(share=st.floats(0.1, 0.97))
def test_a_file_truncated_anywhere_is_rejected(kind: str, share: float) -> None:
    whole = encoded(colours(), kind)
    assert reason(whole[: int(len(whole) * share)]) == Reason.TRUNCATED


def test_a_jpeg_that_is_cut_anywhere_before_its_last_rows_is_rejected() -> None:
    whole = encoded(colours(), "JPEG")
    assert b"\xff\x00" in whole[650:]
    scan = whole.index(b"\xff\xda")
    assert {reason(whole[:end]) for end in range(scan, len(whole) - 10)} == {Reason.TRUNCATED}


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_truncated_files_are_rejected(kind: str) -> None:
    whole = encoded(colours(), kind)
    assert reason(whole[: len(whole) // 2]) in (Reason.TRUNCATED, Reason.UNDECODABLE)


@pytest.mark.parametrize("content", [b"", b"\0", b"hello, world" * 99, b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_bytes_that_are_no_image_are_undecodable(content: bytes) -> None:
    assert reason(content) == Reason.UNDECODABLE


def test_a_damaged_png_is_undecodable() -> None:
    damaged = bytearray(encoded(colours(), "PNG"))
    damaged[len(damaged) // 2] ^= 255
    assert reason(bytes(damaged)) == Reason.UNDECODABLE


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM"]))
def test_random_bytes_raise_nothing_but_rejected(content: bytes, start: bytes) -> None:
    with contextlib.suppress(Rejected):
        assert decode_grey(start + content).dtype == np.uint8


@pytest.mark.parametrize("size", [(7, 100), (100, 7), (MAX_SIDE + 1, 20), (2100, 2100)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_absurd_dimensions_are_rejected(size: tuple[int, int], kind: str) -> None:
    assert reason(encoded(Image.new("L", size), kind)) == Reason.ABSURD_DIMENSIONS


def test_a_bomb_is_rejected_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"not even data") + chunk(b"IEND", b"")
    assert reason(bomb) == Reason.ABSURD_DIMENSIONS


@pytest.mark.parametrize("kind", ["AVIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_rejected(kind: str) -> None:
    frames = [colours().transpose(turn) for turn in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180)]
    assert reason(encoded(colours(), kind, save_all=True, append_images=frames)) == Reason.SEVERAL_FRAMES


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("size", [(40, 150), (8, 8), (16, 300), (300, 16), (32, 100)])
def test_any_size_is_resized_to_the_given_size(resize: Literal["stretch", "pad"], size: tuple[int, int]) -> None:
    params = NormalizeParams(32, 100, resize)
    grey = np.full(size, 77, np.uint8)
    fitted = fit(grey, params)
    assert fitted.shape == (32, 100)
    assert fitted.dtype == np.uint8
    assert (fitted == 77).all()


def test_pad_keeps_the_aspect_ratio_and_uses_the_grey_of_the_border() -> None:
    grey = np.full((32, 32), 200, np.uint8)
    grey[8:24, 8:24] = 0
    fitted = fit(grey, NormalizeParams(32, 100, "pad"))
    np.testing.assert_array_equal(fitted[:, 34:66], grey)
    assert (np.delete(fitted, np.s_[34:66], axis=1) == 200).all()


def test_shrinking_averages_all_pixels() -> None:
    grey = np.zeros((64, 200), np.uint8)
    grey[::2] = 255  # nearest or bilinear sampling would alias
    assert np.abs(fit(grey, NormalizeParams(32, 100)).astype(int) - 128).max() <= 1


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, data: bytes | None = None) -> bytes:
    """A grey PNG of 60 x 24 pixels with additional `chunks` before its data."""
    packed = zlib.compress(bytes(61 * 24)) if data is None else data
    header = struct.pack(">IIBBBBB", 60, 24, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *chunks, chunk(b"IDAT", packed), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"zTXt", b"note\0\0" + zlib.compress(bytes(64 << 20))),
        (b"iCCP", b"\x1b[31mred\0\0" + zlib.compress(bytes(64 << 20))),
        (b"tEXt", b"note\0" + b"\x1b[2J" * 1_000_000),
        (b"gAMA", struct.pack(">I", 100_000)),
        (b"sBIT", b"\1"),
        (b"bKGD", b"\0\xff"),
    ],
)
def test_metadata_chunks_have_no_effect(kind: bytes, data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    np.testing.assert_array_equal(decode_grey(png(chunk(kind, data))), decode_grey(png()))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content",
    [
        png(chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))),
        png(data=zlib.compress(bytes(61 * 10))),
        png(data=b""),
        png(data=zlib.compress(bytes(100 << 20))),
        png(data=b"\0" * 70_000),
        png(chunk(b"ABCD", b"")),
        png(chunk(b"tEXt", b"") * 100_000),
        png(b"\0\0\0\0\x1b[2J\0\0\0\0"),
    ],
    ids=["two headers", "too little", "nothing", "too much", "no data", "not known", "many chunks", "odd chunk"],
)
def test_an_inconsistent_png_is_undecodable(content: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        decode_grey(content)
    assert caught.value.reason == Reason.UNDECODABLE
    assert caught.value.detail.isprintable()


def test_an_interlaced_png_is_read() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 60), np.uint8)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [row for y, x, down, across in passes for row in pixels[y::down, x::across]]
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    content = png(data=data).replace(
        chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 24, 8, 0, 0, 0, 0)),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 24, 8, 0, 0, 0, 1)),
    )
    np.testing.assert_array_equal(decode_grey(content), pixels)


def jpeg_with(segments: bytes) -> bytes:
    whole = encoded(colours(), "JPEG")
    return whole[:2] + segments + whole[2:]


# A segment with dimensions of 30,000 x 30,000. In the first two cases below, a marker without a segment hides it: a
# parser that takes the bytes after the marker for a segment skips the dimensions, while the decoder reads them.
_HUGE = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 30_000, 30_000, 3) + b"\1\x22\0\2\x11\1\3\x11\1"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (jpeg_with(b"\xff\xd0" + struct.pack(">H", 2 + len(_HUGE)) + _HUGE), "damaged segments"),
        (jpeg_with(b"\xff\x01" + struct.pack(">H", 2 + len(_HUGE)) + _HUGE), "damaged segments"),
        (jpeg_with(_HUGE), "dimensions twice"),
        (jpeg_with(b"\xff" * 200_000), "more than 100000 segments"),
        (jpeg_with(b"\xff\xe0\0\2" * 200_000), "more than 100000 segments"),
        (jpeg_with(b"\xff\xe0\0\1"), "damaged segments"),
        (encoded(colours(), "JPEG")[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 101 + b"\xff\xd9", "more than 100 scans"),
    ],
)
def test_a_hostile_jpeg_is_undecodable(content: bytes, why: str) -> None:
    with pytest.raises(Rejected, match=why) as caught:
        decode_grey(content)
    assert caught.value.reason == Reason.UNDECODABLE


def test_a_progressive_jpeg_without_its_last_scans_is_read() -> None:
    whole = encoded(colours(), "JPEG", progressive=True)
    scans = [i for i in range(len(whole)) if whole.startswith(b"\xff\xda", i)]
    assert len(scans) > 4
    rough = decode_grey(whole[: scans[3]] + b"\xff\xd9")
    assert np.abs(rough.astype(int) - decode_grey(whole)).mean() < 10


def test_floating_point_samples_are_undecodable() -> None:
    for value in (np.nan, np.inf, 1e30):
        assert reason(encoded(Image.fromarray(np.full((24, 60), value, np.float32)), "TIFF")) == Reason.UNDECODABLE


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_bombs_of_other_formats_are_rejected_by_their_headers(kind: str) -> None:
    content = encoded(Image.new("1", (30_000, 200)) if kind == "TIFF" else colours(), kind)
    if kind == "GIF":
        content = content[:6] + struct.pack("<HH", 30_000, 30_000) + content[10:]
    elif kind == "BMP":
        content = content[:18] + struct.pack("<ii", 30_000, 30_000) + content[26:]
    assert reason(content) == Reason.ABSURD_DIMENSIONS


def test_an_image_of_one_pixel_is_rejected() -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP"):
        assert reason(encoded(Image.new("L", (1, 1)), kind)) == Reason.ABSURD_DIMENSIONS


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_frames_are_not_counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Counting takes Pillow quadratic time, which is hours for a TIFF of a million directories.
    content = encoded(colours(), kind, save_all=True, append_images=[colours().rotate(180)] * 3)

    def counted(image: Image.Image) -> int:
        raise AssertionError("counted")

    for plugin in (TiffImagePlugin.TiffImageFile, GifImagePlugin.GifImageFile):
        monkeypatch.setattr(plugin, "n_frames", property(counted))
    if kind == "GIF":
        assert read_image(content).repairs == (Repair.FIRST_FRAME,)
    else:
        assert reason(content) == Reason.SEVERAL_FRAMES


@pytest.mark.parametrize("start", [b"P1 300 200\n", b"P2 300 200 255\n", b"P3 300 200 255\n"])
def test_large_plain_pnm_images_are_not_decoded(start: bytes) -> None:
    # Pillow takes minutes for a few megabytes of comments.
    assert reason(start + b"#\n" * 8_000_000) == Reason.UNDECODABLE
    assert decode_grey(b"P2 9 8 255\n" + b"7 " * 72).shape == (8, 9)


def run_lengths(side: int) -> bytes:
    """A run-length encoded BMP of alternating pixels, the slowest case for Pillow."""
    rows = (b"\1\0\1\1" * (side // 2) + b"\0\0") * side + b"\0\1"
    palette = bytes([0, 0, 0, 0, 255, 255, 255, 0])
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 2, 0) + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


def test_large_run_length_encoded_bmps_are_not_decoded() -> None:
    # Pillow takes a second for eight megabytes.
    assert decode_grey(run_lengths(100))[0, :2].tolist() == [0, 255]
    assert reason(run_lengths(400)) == Reason.UNDECODABLE
    # Uncompressed BMPs can be larger.
    assert decode_grey(encoded(Image.new("L", (600, 600), 7), "BMP")).shape == (600, 600)


def test_of_an_animated_gif_the_first_frame_is_read_if_it_fills_the_picture() -> None:
    frames = [colours().convert("L"), colours().convert("L").rotate(180)]
    animated = read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(animated.grey, decode_grey(encoded(frames[0], "GIF")))
    assert animated.repairs == (Repair.FIRST_FRAME,)
    assert read_image(encoded(frames[0], "GIF")).repairs == ()
    content = bytearray(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    # The width and height of the screen, which the first frame does not fill then.
    content[6:10] = struct.pack("<HH", frames[0].width + 5, frames[0].height + 5)
    assert reason(bytes(content)) == Reason.SEVERAL_FRAMES


def test_avif_is_read() -> None:
    if not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    grey = decode_grey(encoded(colours(), "PNG"))
    assert np.abs(decode_grey(encoded(colours(), "AVIF", quality=95)).astype(int) - grey).mean() < 8
    assert reason(encoded(colours(), "AVIF")[:-40]) in (Reason.TRUNCATED, Reason.UNDECODABLE)


@pytest.mark.parametrize("seed", range(4))
def test_a_jpeg_without_its_end_marker_is_read_if_all_rows_are_there(seed: int) -> None:
    content = encoded(Image.fromarray(noise(seed, 50, 130)), "JPEG", quality=80)
    assert content.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode_grey(content[:-2]), decode_grey(content))
    assert read_image(content[:-2]).repairs == (Repair.NO_END_MARKER,)
    assert read_image(content).repairs == ()
    for missing in (30, 200, len(content) // 2):
        assert reason(content[:-missing]) == Reason.TRUNCATED
    progressive = encoded(Image.fromarray(noise(seed, 50, 130)), "JPEG", progressive=True)
    assert reason(progressive[:-2]) == Reason.TRUNCATED


def text(ink: tuple[int, ...], ground: tuple[int, ...]) -> Image.Image:
    """A picture of a text in two colours, RGB or RGBA."""
    page = np.zeros((40, 90, len(ink)), np.uint8)
    page[:] = ground
    cv2.putText(page, "A7b", (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, ink, 2)
    return Image.fromarray(page)


def test_white_text_on_transparency_is_read_on_black() -> None:
    grey = decode_grey(encoded(text((255, 255, 255, 255), (255, 255, 255, 0)), "PNG"))
    np.testing.assert_array_equal(grey, decode_grey(encoded(text((255,) * 3, (0,) * 3), "PNG")))
    # White stays the ground wherever the text is to be seen on it.
    dark = decode_grey(encoded(text((90, 90, 90, 255), (0, 0, 0, 0)), "PNG"))
    assert (dark.min(), dark.max()) == (90, 255)
    np.testing.assert_array_equal(grey, to_grey(text((255, 255, 255, 255), (255, 255, 255, 0))))


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_colours_of_equal_grey_are_read_in_the_channel_with_most_contrast(kind: str) -> None:
    ink, ground = (200, 40, 40), (0, 135, 73)
    image = text(ink, ground)
    assert np.ptp(np.asarray(image.convert("L"))) < 4
    np.testing.assert_array_equal(decode_grey(encoded(image, kind)), np.asarray(image)[:, :, 0])


def test_a_faint_picture_without_a_better_channel_stays_as_it_is() -> None:
    image = text((130, 130, 130), (120, 120, 120))
    np.testing.assert_array_equal(decode_grey(encoded(image, "PNG")), np.asarray(image.convert("L")))
