"""A trained model that reads images of any size and format."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from captchabench.alphabet import display_text
from captchabench.errors import InputError, first_line
from captchabench.inference.images import DEFAULT_LIMITS, Limits, as_grey, decode
from captchabench.inference.onnx_file import SUFFIX, read_onnx
from captchabench.inference.results import Explanation, Prediction
from captchabench.inference.soundness import check_reading, watch_network
from captchabench.models import load_recogniser as load_weights
from captchabench.models import read_saved
from captchabench.models.base import Recogniser
from captchabench.models.saved import About
from captchabench.networks.readings import Steps
from captchabench.normalize.images import create_clahe, fit

# A path, an encoded image, a Pillow image, or an array [H, W], [H, W, 3] RGB or [H, W, 4] RGBA of uint8.
AnyImage: TypeAlias = str | Path | bytes | Image | NDArray[np.uint8]


class LoadedRecogniser:
    """A trained recogniser that prepares images of any size itself. path: where it was loaded from."""

    def __init__(self, path: Path, about: About, recogniser: Recogniser, limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = path
        self.about = about
        self.limits = limits
        self.recogniser = recogniser

    def predict(self, images: Iterable[AnyImage], top_k: int = 1) -> list[Prediction]:
        """Read images of any size. With `top_k` above 1 each prediction has up to `top_k` alternatives.

        images: paths, encoded bytes, Pillow images, or uint8 arrays [H, W], [H, W, 3] RGB or [H, W, 4] RGBA. They are
        decoded and resized exactly as `normalize` prepared the training images. All are held in memory at the input
        size of the model. Raises Unreadable, an InputError, for the first image that cannot be read. Raises InputError
        if damaged weights yield probabilities that are not finite.
        """
        return self.read(self.stack(self.decode(image) for image in images), top_k)

    def explain(self, images: Iterable[AnyImage]) -> list[Explanation]:
        """Read images and explain each reading: the model's input and its steps. images, raises: see `predict`."""
        greys = [self.decode(image) for image in images]
        pixels = self.stack(greys)
        predictions = self.read(pixels)
        steps = [
            Steps(explained.kind, tuple(replace(step, symbol=self.named(step.symbol)) for step in explained.steps))
            for explained in self.recogniser.explain(pixels)
        ]
        parts = zip(predictions, greys, pixels, steps, strict=True)
        return [Explanation(*part) for part in parts]

    def decode(self, image: AnyImage) -> NDArray[np.uint8]:
        """The image as [H, W] uint8 grey at its original size. Raises Unreadable."""
        if isinstance(image, str):
            image = Path(image)
        return decode(image, self.limits) if isinstance(image, bytes | Path) else as_grey(image)

    def prepare(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a grey image to the model's input: [about.height, about.width] uint8. Thread-safe."""
        preprocessing = self.about.preprocessing
        return fit(grey, preprocessing, create_clahe(preprocessing))

    def stack(self, greys: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Prepare grey images of any size as one array: [N, about.height, about.width] uint8."""
        prepared = [self.prepare(grey) for grey in greys]
        return np.array(prepared, np.uint8).reshape(-1, self.about.height, self.about.width)

    def read(self, pixels: NDArray[np.uint8], top_k: int = 1) -> list[Prediction]:
        """Read prepared images [N, about.height, about.width] uint8; see `predict`. Not thread-safe."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, is {top_k}")
        # No warnings here: `check_reading` below reports damaged weights in one line.
        with np.errstate(over="ignore", invalid="ignore"):
            reading = self.recogniser.predict(pixels)
        check_reading(reading, self.recogniser, self.path)
        confidences = np.clip(reading.confidences, 0, 1).tolist()
        alternatives = self.recogniser.alternatives(pixels, top_k) if top_k > 1 else [()] * len(pixels)
        predictions = [Prediction(*parts) for parts in zip(reading.texts, confidences, alternatives, strict=True)]
        return [self._named(prediction) for prediction in predictions] if self.about.class_names else predictions

    def named(self, text: str) -> str:
        """A text as it is shown to users: unchanged, or for a grid the class names separated by commas."""
        return display_text(text, self.recogniser.spec.alphabet, self.about.class_names)

    def _named(self, prediction: Prediction) -> Prediction:
        alternatives = (replace(one, text=self.named(one.text)) for one in prediction.alternatives)
        return replace(prediction, text=self.named(prediction.text), alternatives=tuple(alternatives))


def load_recogniser(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> LoadedRecogniser:
    """Load a trained model from a folder that the `train` stage wrote, or from an exported .onnx file.

    limits: the largest images that it will read. Nothing is unpickled. Raises InputError if `path` is not a complete
    model of this benchmark.
    """
    folder = Path(path)
    if folder.suffix == SUFFIX:
        about, recogniser = read_onnx(folder)
    else:
        config = read_saved(folder)
        about, recogniser = config.about, load_weights(folder, config)
        watch_network(recogniser, folder)
    loaded = LoadedRecogniser(folder, about, recogniser, limits)
    try:
        loaded.read(np.zeros((1, about.height, about.width), np.uint8))
    except InputError:
        raise
    # Arrays of the right shapes may still have a dtype that the model cannot compute with.
    except Exception as error:
        raise InputError(f"{folder}: cannot read an image ({first_line(error)}); copy or train it again") from None
    return loaded


def read_about(path: str | Path) -> About:
    """The metadata of the model in the folder `path`; no weights are read. Raises InputError."""
    return read_saved(Path(path)).about
