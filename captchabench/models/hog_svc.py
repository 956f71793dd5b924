"""HOG and SVMs on segmented characters: the classical pipeline, without a neural network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.special import log_softmax

from captchabench.config import Between, Positive
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.base import Recogniser
from captchabench.models.saved import load_arrays, save_arrays
from captchabench.models.segmentation.crops import HEIGHT
from captchabench.models.segmentation.lines import Segments
from captchabench.models.segmentation.tiles import segmenter_for
from captchabench.networks.readings import Alternative, Reading, Step, Steps
from captchabench.networks.words import as_alternatives, likeliest_words
from captchabench.samples.shards import Samples, TextSpec
from captchabench.training.checkpoints import Checkpoints, CurvePoint

WEIGHTS_FILE, SEGMENTER_FILE = "weights.npz", "segmenter.npz"


@dataclass(frozen=True)
class Config:
    """Parameters of hog_svc."""

    # Of the SVMs' weights: more regularises more.
    ridge: Annotated[float, Between(1e-9, 1e3)] = 1e-4
    # Random cosines that stand for a Gaussian kernel: time grows with their square.
    cosines: Annotated[int, Between(1, 20_000)] = 1500
    # Characters to train on at most, taken at even distances over the training samples.
    max_characters: Positive = 30000


@RECOGNISERS.register
class HogSvc(Recogniser):
    """Segments, histograms of oriented gradients, one least-squares SVM against the rest for each symbol.

    The SVMs' margins become probabilities by a softmax at one temperature, fitted on the validation samples
    (Guo et al., ICML 2017); a word's probability is the product of its characters'.
    """

    config_class = Config

    def __init__(self, spec: TextSpec, config: Config) -> None:
        super().__init__(spec, config)
        self.segmenter = segmenter_for(spec)
        self.symbols = np.zeros(1, np.int64)  # class ids of the machine's columns
        size, cosines = feature_count(HEIGHT, self.segmenter.crop_width), config.cosines
        shapes = ((size,), (size, cosines), (cosines,), (cosines + size + 1, 1))
        self.svms = KernelMachine(*(np.zeros(shape, np.float32) for shape in shapes))
        self.temperature = 1.0

    def fit(
        self,
        train: Samples,
        validation: Samples,
        *,
        seed: int,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> list[CurvePoint]:
        """See Recogniser.fit. One point: there are no steps to watch."""
        if not len(train) or not len(validation):
            raise InputError(f"hog_svc needs samples: {len(train)} to train on, {len(validation)} to choose on")
        share = min(1.0, self.config.max_characters / (len(train) * self.spec.max_length))
        chosen = np.unique(np.linspace(0, len(train) - 1, max(1, int(share * len(train)))).astype(np.int64))
        train = train.where(chosen)
        self.segmenter = segmenter_for(self.spec)
        self.segmenter.fit(train.pixels, train.labels)
        features, classes = self._characters(train)
        self.symbols, columns = np.unique(classes, return_inverse=True)
        self.svms = KernelMachine.fit(features, columns, self.config.cosines, self.config.ridge, seed)
        self.temperature = self._fit_temperature(validation)
        exact = np.mean(np.asarray(self.predict(validation.pixels).texts, object) == validation.labels)
        return [CurvePoint(1, 1.0, None, None, None, float(exact))]

    def predict(self, pixels: NDArray[np.uint8]) -> Reading:
        """See Recogniser.predict."""
        segments, log_probs = self._read(pixels)
        rows = np.repeat(np.arange(len(pixels)), segments.lengths)
        words = np.bincount(rows, log_probs.max(axis=1), minlength=len(pixels))
        ids = np.split(self.symbols[log_probs.argmax(axis=1)], segments.lengths.cumsum()[:-1])
        texts = [self.spec.alphabet.decode(row) for row in ids][: len(pixels)]
        return Reading(texts, np.exp(words).astype(np.float32))

    def alternatives(self, pixels: NDArray[np.uint8], count: int) -> list[tuple[Alternative, ...]]:
        """See Recogniser.alternatives."""
        segments, log_probs = self._read(pixels)
        found = []
        for line in np.split(log_probs, segments.lengths.cumsum()[:-1])[: len(pixels)]:
            (ids,), (scores,) = likeliest_words(line[None], count)
            found.append(as_alternatives(self.spec.alphabet, self.symbols[ids], scores, count))
        return found

    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """See Recogniser.explain."""
        segments, log_probs = self._read(pixels)
        symbols = self.spec.alphabet.decode(self.symbols[log_probs.argmax(axis=1)])
        steps = [Step(0, 0, 0, 0, *read) for read in zip(symbols, np.exp(log_probs.max(axis=1)).tolist(), strict=True)]
        ends = segments.lengths.cumsum().tolist()
        lines = [tuple(steps[end - n : end]) for end, n in zip(ends, segments.lengths.tolist(), strict=True)]
        return self.segmenter.locate(pixels, [Steps("characters", line) for line in lines])

    @property
    def parameter_count(self) -> int:
        """See Recogniser.parameter_count."""
        return sum(a.size for a in self.svms.arrays().values()) + 1 + self.segmenter.parameter_count

    def save_weights(self, folder: Path) -> None:
        """See Recogniser.save_weights."""
        arrays: dict[str, NDArray[Any]] = {
            **self.svms.arrays(),
            "symbols": self.symbols,
            "temperature": np.array(self.temperature),
        }
        save_arrays(folder / WEIGHTS_FILE, arrays)
        self.segmenter.save(folder / SEGMENTER_FILE)

    def load_weights(self, folder: Path) -> None:
        """See Recogniser.load_weights."""
        path = folder / WEIGHTS_FILE
        arrays = load_arrays(path, (*NAMES, "symbols", "temperature"))
        svms = KernelMachine(**{name: arrays[name] for name in NAMES})
        symbols = arrays["symbols"]
        if (
            symbols.ndim != 1
            or symbols.dtype != np.int64
            or not 1 <= len(symbols) <= len(self.spec.alphabet)
            or not 0 <= symbols.min() <= symbols.max() < len(self.spec.alphabet)
            or not svms.fits(len(self.svms.mean), self.config.cosines, len(symbols))
            or arrays["temperature"].shape != ()
            or not arrays["temperature"] > 0
        ):
            raise InputError(f"{path}: does not fit config.json beside it; train it anew")
        self.svms, self.symbols, self.temperature = svms, symbols, float(arrays["temperature"])
        self.segmenter.load(folder / SEGMENTER_FILE)

    def _characters(self, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features and class ids of the samples' characters, found with the labels known."""
        crops = _present(self.segmenter.segment(samples.pixels, samples.labels))
        return hog_features(crops), np.array(self.spec.alphabet.encode("".join(samples.labels)), np.int64)

    def _read(self, pixels: NDArray[np.uint8]) -> tuple[Segments, NDArray[np.float32]]:
        """The characters of all lines, and the log-probabilities of each one after the other: [M, K]."""
        segments = self.segmenter.segment(pixels)
        return segments, log_softmax(self.svms.margins(hog_features(_present(segments))) / self.temperature, axis=1)

    def _fit_temperature(self, validation: Samples) -> float:
        """The temperature at which the validation characters are likeliest."""
        features, classes = self._characters(validation)
        known = np.isin(classes, self.symbols)
        margins = self.svms.margins(features[known])
        columns = np.searchsorted(self.symbols, classes[known])
        if not len(columns):
            return 1.0

        from scipy.optimize import minimize_scalar

        def surprise(log_temperature: float) -> float:
            log_probs = log_softmax(margins / np.exp(log_temperature), axis=1)
            return -float(log_probs[np.arange(len(columns)), columns].mean())

        return float(np.exp(minimize_scalar(surprise, bounds=(-5.0, 3.0), method="bounded").x))


def _present(segments: Segments) -> NDArray[np.uint8]:
    """The crops that hold a character, line after line: [M, 32, W]."""
    places: NDArray[np.bool_] = np.arange(segments.crops.shape[1]) < segments.lengths[:, None]
    return segments.crops[places]


_CELL, _BLOCK, _DIRECTIONS = 8, 16, 9


def hog_features(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """HOG of each crop: [M, H, W], H and W multiples of 8, to [M, feature_count(H, W)].

    Cells of 8 x 8 pixels, normalised in blocks of 2 x 2 that overlap by half; 9 directions.
    """
    _, height, width = crops.shape
    descriptor = cv2.HOGDescriptor((width, height), (_BLOCK, _BLOCK), (_CELL, _CELL), (_CELL, _CELL), _DIRECTIONS)
    features = np.empty((len(crops), feature_count(height, width)), np.float32)
    for row, crop in zip(features, crops, strict=True):
        row[:] = descriptor.compute(crop)
    return features


def feature_count(height: int, width: int) -> int:
    """The number of features of a crop: four histograms a block."""
    return 4 * _DIRECTIONS * (height // _CELL - 1) * (width // _CELL - 1)


# Of the kernel, in units of the features' overall standard deviation times the root of their number.
_WIDTH = 1.4
_CHUNK = 4096


@dataclass(frozen=True)
class KernelMachine:
    """One machine against the rest for each of K symbols, on D features.

    A Gaussian kernel is approximated by R random cosines (Rahimi and Recht, NIPS 2007); the features themselves stand
    beside them. mean: [D]. directions: [D, R]. phases: [R]. weights: [R + D + 1, K].
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    phases: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def fit(
        cls, features: NDArray[np.float32], classes: NDArray[np.int64], cosines: int, ridge: float, seed: int
    ) -> Self:
        """Learn from features [M, D] and their rows of K symbols, `classes` [M].

        The squared errors from 1 for a symbol and 0 for the others are minimised (least-squares SVM: Suykens and
        Vandewalle, Neural Processing Letters 9, 1999). ridge: in units of the mean square of a column.
        """
        size = features.shape[1]
        generator = np.random.default_rng(seed)
        scale = _WIDTH * max(float(features.std()), 1e-6) * np.sqrt(size)
        directions = (generator.standard_normal((size, cosines)) / scale).astype(np.float32)
        phases = generator.uniform(0, 2 * np.pi, cosines).astype(np.float32)
        count = int(classes.max()) + 1
        machine = cls(features.mean(axis=0), directions, phases, np.zeros((cosines + size + 1, count), np.float32))
        gram = np.zeros((cosines + size + 1, cosines + size + 1))
        moments = np.zeros((cosines + size + 1, count))
        for rows in _chunks(len(features)):
            mapped = machine._map(features[rows])
            gram += mapped.T @ mapped
            moments += mapped.T @ np.eye(count, dtype=np.float32)[classes[rows]]
        gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram)
        machine.weights[:] = solve(gram, moments, assume_a="pos")
        return machine

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """[M, D] to [M, K]."""
        margins = np.empty((len(features), self.weights.shape[1]), np.float32)
        for rows in _chunks(len(features)):
            margins[rows] = self._map(features[rows]) @ self.weights
        return margins

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """All that it holds, by name."""
        return {name: getattr(self, name) for name in NAMES}

    def fits(self, size: int, cosines: int, count: int) -> bool:
        """Whether the arrays are those of a machine for `count` symbols, with so many features and cosines."""
        shapes = ((size,), (size, cosines), (cosines,), (cosines + size + 1, count))
        found = self.arrays().values()
        return all(a.shape == s and a.dtype == np.float32 for a, s in zip(found, shapes, strict=True))

    def _map(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines, features and a one: [M, D] to [M, R + D + 1]."""
        centred = features - self.mean
        one = np.ones((len(features), 1), np.float32)
        return np.concatenate([np.cos(centred @ self.directions + self.phases), centred, one], axis=1)


NAMES = ("mean", "directions", "phases", "weights")


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
