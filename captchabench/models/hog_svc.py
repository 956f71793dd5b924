"""HOG features and SVMs on segmented characters: the classical pipeline, without a neural network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, solve
from scipy.special import log_softmax

from captchabench.config import Between, Positive
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.base import Recogniser
from captchabench.models.saved import load_arrays, save_arrays
from captchabench.models.segmentation.crops import HEIGHT
from captchabench.models.segmentation.lines import Segments
from captchabench.models.segmentation.tiles import segmenter_for
from captchabench.networks.alternatives import as_alternatives, likeliest_texts
from captchabench.networks.readings import Alternative, Reading, Step, Steps
from captchabench.samples.shards import Samples, TextSpec
from captchabench.training.checkpoints import Checkpoints, CurvePoint

WEIGHTS_FILE, SEGMENTER_FILE = "weights.npz", "segmenter.npz"


@dataclass(frozen=True)
class Config:
    """Parameters of hog_svc."""

    # Regularisation of the SVMs' weights. Below 1e-5 rounding makes the equations singular; above 1 accuracy falls.
    ridge: Annotated[float, Between(1e-5, 1)] = 1e-4
    # Random cosines that approximate a Gaussian kernel. Time and memory grow with their square: 8,000 take 1 GB.
    cosines: Annotated[int, Between(1, 8_000)] = 1500
    # The largest number of characters to train on, spread evenly over the training samples.
    max_characters: Positive = 30000


@RECOGNISERS.register
class HogSvc(Recogniser):
    """Segmentation, histograms of oriented gradients, and one least-squares SVM per symbol (one against the rest).

    A softmax turns the SVMs' margins into probabilities. Its temperature is fitted on the validation samples (Guo et
    al., ICML 2017). The probability of a text is the product of those of its characters.
    """

    config_class = Config

    def __init__(self, spec: TextSpec, config: Config) -> None:
        super().__init__(spec, config)
        self.segmenter = segmenter_for(spec)
        self.symbols = np.zeros(1, np.int64)  # class id of each column of the SVMs' margins
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
        """See Recogniser.fit. The curve has one point. Raises InputError if the images are too alike to learn from."""
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
        of_texts = np.bincount(rows, log_probs.max(axis=1), minlength=len(pixels))
        ids = np.split(self.symbols[log_probs.argmax(axis=1)], segments.lengths.cumsum()[:-1])
        texts = [self.spec.alphabet.decode(row) for row in ids][: len(pixels)]
        return Reading(texts, np.exp(of_texts).astype(np.float32))

    def alternatives(self, pixels: NDArray[np.uint8], count: int) -> list[tuple[Alternative, ...]]:
        """See Recogniser.alternatives."""
        segments, log_probs = self._read(pixels)
        alternatives = []
        for line in np.split(log_probs, segments.lengths.cumsum()[:-1])[: len(pixels)]:
            (ids,), (scores,) = likeliest_texts(line[None], count)
            alternatives.append(as_alternatives(self.spec.alphabet, self.symbols[ids], scores, count))
        return alternatives

    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """See Recogniser.explain."""
        segments, log_probs = self._read(pixels)
        symbols = self.spec.alphabet.decode(self.symbols[log_probs.argmax(axis=1)])
        probabilities = np.exp(log_probs.max(axis=1)).tolist()
        # The segmenter adds boxes and crops below.
        steps = [Step(0, 0, 0, 0, *read) for read in zip(symbols, probabilities, strict=True)]
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
            raise InputError(f"{path}: does not fit config.json in the same folder; train the model again")
        self.svms, self.symbols, self.temperature = svms, symbols, float(arrays["temperature"])
        self.segmenter.load(folder / SEGMENTER_FILE)

    def _characters(self, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features [M, D] and class ids [M] of the samples' characters, segmented by their labels."""
        crops = _crops_of_characters(self.segmenter.segment(samples.pixels, samples.labels))
        return hog_features(crops), np.array(self.spec.alphabet.encode("".join(samples.labels)), np.int64)

    def _read(self, pixels: NDArray[np.uint8]) -> tuple[Segments, NDArray[np.float32]]:
        """The characters of all lines, and the log-probability of each symbol for each character: [M, K]."""
        segments = self.segmenter.segment(pixels)
        return segments, log_softmax(
            self.svms.margins(hog_features(_crops_of_characters(segments))) / self.temperature, axis=1
        )

    def _fit_temperature(self, validation: Samples) -> float:
        """The temperature that maximises the likelihood of the validation characters; 1 if none has a known symbol."""
        features, classes = self._characters(validation)
        known = np.isin(classes, self.symbols)
        margins = self.svms.margins(features[known])
        columns = np.searchsorted(self.symbols, classes[known])
        if not len(columns):
            return 1.0

        from scipy.optimize import minimize_scalar

        def loss(log_temperature: float) -> float:
            log_probs = log_softmax(margins / np.exp(log_temperature), axis=1)
            return -float(log_probs[np.arange(len(columns)), columns].mean())

        return float(np.exp(minimize_scalar(loss, bounds=(-5.0, 3.0), method="bounded").x))


def _crops_of_characters(segments: Segments) -> NDArray[np.uint8]:
    """The crops of all characters, line by line: [M, 32, W] uint8."""
    present: NDArray[np.bool_] = np.arange(segments.crops.shape[1]) < segments.lengths[:, None]
    return segments.crops[present]


_CELL, _BLOCK, _DIRECTIONS = 8, 16, 9


def hog_features(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histograms of oriented gradients of each crop: [M, feature_count(H, W)] (Dalal and Triggs, CVPR 2005).

    crops: [M, H, W], H and W multiples of 8. Cells have 8 x 8 pixels and 9 directions. They are normalised in blocks of
    2 x 2 cells, which overlap by half.
    """
    _, height, width = crops.shape
    descriptor = cv2.HOGDescriptor((width, height), (_BLOCK, _BLOCK), (_CELL, _CELL), (_CELL, _CELL), _DIRECTIONS)
    features = np.empty((len(crops), feature_count(height, width)), np.float32)
    for row, crop in zip(features, crops, strict=True):
        row[:] = descriptor.compute(crop)
    return features


def feature_count(height: int, width: int) -> int:
    """The number of features of a crop: four histograms per block."""
    return 4 * _DIRECTIONS * (height // _CELL - 1) * (width // _CELL - 1)


# The width of the Gaussian kernel, in units of the features' standard deviation times the root of their number.
_WIDTH = 1.4
_CHUNK = 4096


@dataclass(frozen=True)
class KernelMachine:
    """SVMs for K symbols on D features, each of one symbol against the rest.

    R random cosines approximate a Gaussian kernel (Rahimi and Recht, NIPS 2007). The SVMs are linear in the cosines and
    the features. mean: [D]. directions: [D, R]. phases: [R]. weights: [R + D + 1, K].
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    phases: NDArray[np.float32]
    weights: NDArray[np.float32]

    @classmethod
    def fit(
        cls, features: NDArray[np.float32], classes: NDArray[np.int64], cosines: int, ridge: float, seed: int
    ) -> Self:
        """Learn from features [M, D] and their symbols, `classes` [M] from 0 to K - 1.

        Minimises the squared error from 1 for the right symbol and 0 for the others (least-squares SVM: Suykens and
        Vandewalle, Neural Processing Letters 9, 1999). ridge: in units of the mean square of the cosines and features.
        Raises InputError if the equations are singular: the features are too alike for this ridge.
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
        try:
            machine.weights[:] = solve(gram, moments, assume_a="pos")
        except LinAlgError:
            raise InputError(
                "hog_svc: the characters of the training images are too alike; check whether the images are blank or "
                "equal, or raise models.hog_svc.ridge"
            ) from None
        return machine

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The margin of each symbol: features [M, D] to [M, K] float32."""
        margins = np.empty((len(features), self.weights.shape[1]), np.float32)
        for rows in _chunks(len(features)):
            margins[rows] = self._map(features[rows]) @ self.weights
        return margins

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in NAMES}

    def fits(self, size: int, cosines: int, count: int) -> bool:
        """Whether the arrays have the shapes for `size` features, `cosines` random cosines and `count` symbols."""
        shapes = ((size,), (size, cosines), (cosines,), (cosines + size + 1, count))
        arrays = self.arrays().values()
        return all(a.shape == s and a.dtype == np.float32 for a, s in zip(arrays, shapes, strict=True))

    def _map(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines, features and a one: [M, D] to [M, R + D + 1]."""
        centred = features - self.mean
        one = np.ones((len(features), 1), np.float32)
        return np.concatenate([np.cos(centred @ self.directions + self.phases), centred, one], axis=1)


NAMES = ("mean", "directions", "phases", "weights")


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
