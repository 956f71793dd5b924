"""Image corruptions at three strengths each, to measure robustness: models are not trained on them.

After Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019. They are applied to the pixels of the shards, at the size that recognisers read. At strength 3 a person can
still read nearly every text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np
from numpy.typing import NDArray

STRENGTHS = (1, 2, 3)
# Lengths are given in pixels for images of this height, and are scaled with the height.
_HEIGHT = 32


@dataclass(frozen=True)
class Corruption:
    """One way in which images get worse.

    levels: the parameter of `apply` at strengths 1 to 3. apply: (image [H, W], level, generator of this image) to
    [H, W].
    """

    levels: tuple[float, float, float]
    apply: Callable[[NDArray[np.uint8], float, np.random.Generator], NDArray[np.uint8]]


def corrupt(
    pixels: NDArray[np.uint8], sample_ids: Sequence[str] | NDArray[np.object_], name: str, strength: int
) -> NDArray[np.uint8]:
    """Images [N, H, W] with the corruption called `name` at `strength` 1 to 3: [N, H, W].

    The random numbers depend only on the name and the image's sample_id. So the order of images does not matter, and a
    stronger corruption is more of the same.
    """
    corruption = CORRUPTIONS[name]
    level = corruption.levels[STRENGTHS.index(strength)]
    corrupted = np.empty_like(pixels)
    for output, image, sample_id in zip(corrupted, pixels, sample_ids, strict=True):
        seed = blake2b(f"{name}:{sample_id}".encode(), digest_size=8).digest()
        output[:] = corruption.apply(image, level, np.random.default_rng(int.from_bytes(seed, "big")))
    return corrupted


def _noise(image: NDArray[np.uint8], level: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gaussian noise; level: its standard deviation in grey levels."""
    return _grey(image + level * rng.standard_normal(image.shape, np.float32))


def _blur(image: NDArray[np.uint8], level: float, _rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gaussian blur; level: its standard deviation in pixels."""
    blurred: NDArray[np.uint8] = cv2.GaussianBlur(image, (0, 0), level * image.shape[0] / _HEIGHT)
    return blurred


def _contrast(image: NDArray[np.uint8], level: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Contrast that falls from one side to the other, as in uneven light; level: the contrast left at the faint side.

    An even loss of contrast would have no effect, since recognisers standardise images.
    """
    gain = np.linspace(1, level, image.shape[1], dtype=np.float32)
    background = np.float32(np.median(image))
    return _grey(background + (image - background) * (gain[::-1] if rng.random() < 0.5 else gain))


def _lines(image: NDArray[np.uint8], level: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Straight lines across the text, in the grey of the text; level: the number of lines."""
    height, width = image.shape
    low, background, high = np.percentile(image, (2, 50, 98))
    ink = low if background - low > high - background else high
    drawn = image.copy()
    for _ in range(round(level)):
        start, end = (width * rng.uniform(0, 0.25), width * rng.uniform(0.75, 1))
        top, bottom = height * rng.random(2)
        ends = (round(start), round(top)), (round(end), round(bottom))
        cv2.line(drawn, *ends, float(ink), max(1, round(height / _HEIGHT)), cv2.LINE_AA)
    return drawn


def _jpeg(image: NDArray[np.uint8], level: float, _rng: np.random.Generator) -> NDArray[np.uint8]:
    """JPEG compression; level: the quality."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, round(level)])
    decoded: NDArray[np.uint8] | None = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None  # it was encoded just now
    return decoded


def _grey(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rounded and clipped to uint8."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


CORRUPTIONS = {
    "noise": Corruption((12, 25, 45), _noise),
    "blur": Corruption((0.7, 1.1, 1.5), _blur),
    "contrast": Corruption((0.5, 0.25, 0.1), _contrast),
    "lines": Corruption((1, 2, 4), _lines),
    "jpeg": Corruption((40, 20, 8), _jpeg),
}
