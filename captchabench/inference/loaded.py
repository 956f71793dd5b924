"""A trained model that reads images of any size and kind."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from captchabench.alphabet import named
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
from captchabench.normalize.images import contrast, fit

# A path, an encoded image, Pillow's, or an array [H, W], [H, W, 3] RGB or [H, W, 4] RGBA of uint8.
AnyImage: TypeAlias = str | Path | bytes | Image | NDArray[np.uint8]


class LoadedRecogniser:
    """A trained recogniser with all it needs to read images as they come. place: where it was loaded from."""

    def __init__(self, place: Path, about: About, recogniser: Recogniser, limits: Limits = DEFAULT_LIMITS) -> None:
        self.place = place
        self.about = about
        self.limits = limits
        self.recogniser = recogniser

    def predict(self, images: Iterable[AnyImage], top_k: int = 1) -> list[Prediction]:
        """Read images of any size. With `top_k` above 1 each prediction has up to so many alternatives.

        images: paths, encoded bytes, Pillow images, or uint8 arrays [H, W], [H, W, 3] RGB or [H, W, 4] RGBA. They are
        decoded and resized exactly as `normalize` did with the images that the model learned from. All are held in
        memory at the model's size. Raises Unreadable, an InputError, for the first that cannot be read; and InputError
        where damaged weights lead to no finite probabilities.
        """
        return self.read(self.stack(self.decode(image) for image in images), top_k)

    def explain(self, images: Iterable[AnyImage]) -> list[Explanation]:
        """Read images and say how: what the model was given and what it saw where. images, raises: see `predict`."""
        greys = [self.decode(image) for image in images]
        pixels = self.stack(greys)
        predictions = self.read(pixels)
        steps = [
            Steps(found.kind, tuple(replace(step, symbol=self.named(step.symbol)) for step in found.steps))
            for found in self.recogniser.explain(pixels)
        ]
        parts = zip(predictions, greys, pixels, steps, strict=True)
        return [Explanation(*part) for part in parts]

    def decode(self, image: AnyImage) -> NDArray[np.uint8]:
        """The image as [H, W] uint8 grey at its own size. Raises Unreadable."""
        if isinstance(image, str):
            image = Path(image)
        return decode(image, self.limits) if isinstance(image, bytes | Path) else as_grey(image)

    def prepare(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A grey image of any size as the model takes it: [about.height, about.width] uint8. Threads may share it."""
        preprocessing = self.about.preprocessing
        return fit(grey, preprocessing, contrast(preprocessing))

    def stack(self, greys: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Grey images of any size, prepared: [N, about.height, about.width] uint8."""
        prepared = [self.prepare(grey) for grey in greys]
        return np.array(prepared, np.uint8).reshape(-1, self.about.height, self.about.width)

    def read(self, pixels: NDArray[np.uint8], top_k: int = 1) -> list[Prediction]:
        """Read prepared images [N, about.height, about.width] uint8; see `predict`. For one thread at a time."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, is {top_k}")
        # Damaged weights are told below, in one line.
        with np.errstate(over="ignore", invalid="ignore"):
            reading = self.recogniser.predict(pixels)
        check_reading(reading, self.recogniser, self.place)
        confidences = np.clip(reading.confidences, 0, 1).tolist()
        others = self.recogniser.alternatives(pixels, top_k) if top_k > 1 else [()] * len(pixels)
        read = [Prediction(*parts) for parts in zip(reading.texts, confidences, others, strict=True)]
        return [self._named(prediction) for prediction in read] if self.about.class_names else read

    def named(self, text: str) -> str:
        """A text for people: as it stands, or of a grid the names of the classes, with commas between."""
        return named(text, self.recogniser.spec.alphabet, self.about.class_names)

    def _named(self, prediction: Prediction) -> Prediction:
        others = (replace(other, text=self.named(other.text)) for other in prediction.alternatives)
        return replace(prediction, text=self.named(prediction.text), alternatives=tuple(others))


def load_recogniser(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> LoadedRecogniser:
    """The trained model in the folder `path`, which the `train` stage wrote, or in an .onnx file exported from one.

    `limits`: of the images it will read. Nothing is ever unpickled. Raises InputError where this is not a model of
    ours, whole.
    """
    folder = Path(path)
    if folder.suffix == SUFFIX:
        about, recogniser = read_onnx(folder)
    else:
        about, recogniser = read_saved(folder).about, load_weights(folder)
        watch_network(recogniser, folder)
    loaded = LoadedRecogniser(folder, about, recogniser, limits)
    try:
        loaded.read(np.zeros((1, about.height, about.width), np.uint8))
    except InputError:
        raise
    # Numbers of the right shapes can still be of a kind that nothing can be computed with.
    except Exception as error:
        raise InputError(f"{folder}: cannot read an image ({first_line(error)}); copy or train it anew") from None
    return loaded


def read_about(path: str | Path) -> About:
    """What the model in the folder `path` says about itself; no weight is read. Raises InputError."""
    return read_saved(Path(path)).about
