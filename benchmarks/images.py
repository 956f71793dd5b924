"""Images for the benchmarks: stand-ins if their fonts are installed, else synthetic ones."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from captchabench.config import NormalizeParams
from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset, Drawing
from captchabench.datasets.drawing import encode
from captchabench.errors import InputError
from captchabench.normalize.images import decode_grey, fit
from captchabench.samples.shards import Samples, ShardInfo

_HEIGHT, _WIDTH = 40, 150
_FACES = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)
_FOLDS = 5


@dataclass(frozen=True)
class Drawn:
    """Drawings for `dataset`. look: "standin", or "synthetic" for images that share only its alphabet."""

    dataset: Dataset
    look: str
    drawings: list[Drawing]

    def samples(self, height: int, width: int) -> Samples:
        """The drawings as the normalize stage would write them, in folds 0 to 4 in turn."""
        params = NormalizeParams(height=height, width=width)
        dataset, count = self.dataset, len(self.drawings)
        info = ShardInfo(
            dataset.key,
            self.look,
            dataset.version,
            height,
            width,
            dataset.alphabet.symbols,
            dataset.min_length,
            dataset.max_length,
        )
        return Samples(
            info,
            np.array([f"{index:032x}" for index in range(count)], object),
            np.array([drawing.label for drawing in self.drawings], object),
            (np.arange(count) % _FOLDS).astype(np.int8),
            np.full(count, dataset.key, object),
            np.stack([fit(decode_grey(drawing.encoded), params) for drawing in self.drawings]),
        )


def draw_images(key: str, count: int, seed: int) -> Drawn:
    """`count` images over the alphabet of the dataset `key`. Equal arguments give equal images on one machine.

    Raises InputError if there is no such dataset.
    """
    dataset = DATASETS[key]
    draw: Callable[[np.random.Generator], Drawing] = dataset.draw
    look = "standin"
    try:
        draw(np.random.default_rng(seed))
    except InputError:  # its fonts are not installed
        look = "synthetic"

        def draw(rng: np.random.Generator) -> Drawing:
            return _draw_synthetic(dataset, rng)

    return Drawn(dataset, look, [draw(np.random.default_rng([seed, index])) for index in range(count)])


def _draw_synthetic(dataset: Dataset, rng: np.random.Generator) -> Drawing:
    """A JPEG of a label in one of OpenCV's fonts, with displaced characters, noise and two lines."""
    length = int(rng.integers(dataset.min_length, dataset.max_length + 1))
    label = "".join(rng.choice(list(dataset.alphabet.symbols), length))
    canvas = np.full((_HEIGHT, _WIDTH, 3), rng.integers(200, 256, 3), np.uint8)
    face, ink = int(rng.choice(_FACES)), [int(level) for level in rng.integers(0, 150, 3)]
    pitch = (_WIDTH - 20) / length
    for index, symbol in enumerate(label):
        x, y = 10 + round(index * pitch) + int(rng.integers(-2, 3)), 29 + int(rng.integers(-4, 5))
        cv2.putText(canvas, symbol, (x, y), face, rng.uniform(0.8, 1.0), ink, 2, cv2.LINE_AA)
    for _ in range(2):
        start, end = ((x, int(rng.integers(_HEIGHT))) for x in (0, _WIDTH - 1))
        cv2.line(canvas, start, end, ink, 1, cv2.LINE_AA)
    noise = rng.integers(-12, 13, canvas.shape, np.int16)
    return Drawing(label, encode.jpeg(np.clip(canvas + noise, 0, 255).astype(np.uint8), 90), "jpg")
