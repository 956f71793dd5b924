"""HOG and SVMs on segmented characters: the classical pipeline, without a neural network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from scipy.special import log_softmax

from captchabench.config import Between, Positive
from captchabench.data.shards import Samples, TextSpec
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.base import Alternative, Reading, Recogniser, Step, Steps
from captchabench.models.parts.arrays import load_arrays, save_arrays
from captchabench.models.parts.crops import HEIGHT
from captchabench.models.parts.hog import feature_count, hog_features
from captchabench.models.parts.kernel import NAMES, KernelMachine
from captchabench.models.parts.segmentation import Segments
from captchabench.models.parts.tiles import segmenter_for
from captchabench.models.parts.words import as_alternatives, likeliest_words
from captchabench.training.checkpoints import Checkpoints
from captchabench.training.curve import CurvePoint

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


@RECOGNISERS.register("hog_svc")
class HogSvc(Recogniser):
    """Segments, histograms of oriented gradients, one least-squares SVM against the rest for each symbol.

    The SVMs' margins become probabilities by a softmax at one temperature, fitted on the validation samples
    (Guo et al., ICML 2017); a word's probability is the product of its characters'.
    """

    name = "hog_svc"
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

    def predict(self, pixels: np.ndarray) -> Reading:
        """See Recogniser.predict."""
        segments, log_probs = self._read(pixels)
        rows = np.repeat(np.arange(len(pixels)), segments.lengths)
        words = np.bincount(rows, log_probs.max(axis=1), minlength=len(pixels))
        ids = np.split(self.symbols[log_probs.argmax(axis=1)], segments.lengths.cumsum()[:-1])
        texts = [self.spec.alphabet.decode(row) for row in ids][: len(pixels)]
        return Reading(texts, np.exp(words).astype(np.float32))

    def alternatives(self, pixels: np.ndarray, count: int) -> list[tuple[Alternative, ...]]:
        """See Recogniser.alternatives."""
        segments, log_probs = self._read(pixels)
        found = []
        for line in np.split(log_probs, segments.lengths.cumsum()[:-1])[: len(pixels)]:
            (ids,), (scores,) = likeliest_words(line[None], count)
            found.append(as_alternatives(self.spec.alphabet, self.symbols[ids], scores, count))
        return found

    def explain(self, pixels: np.ndarray) -> list[Steps]:
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
        arrays: dict[str, np.ndarray] = {
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

    def _characters(self, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        """Features and class ids of the samples' characters, found with the labels known."""
        crops = _present(self.segmenter.segment(samples.pixels, samples.labels))
        return hog_features(crops), np.array(self.spec.alphabet.encode("".join(samples.labels)), np.int64)

    def _read(self, pixels: np.ndarray) -> tuple[Segments, np.ndarray]:
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


def _present(segments: Segments) -> np.ndarray:
    """The crops that hold a character, line after line: [M, 32, W] uint8."""
    places: np.ndarray = np.arange(segments.crops.shape[1]) < segments.lengths[:, None]
    return segments.crops[places]
