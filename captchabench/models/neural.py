"""The base classes of the deep models: training, reading, saving and loading of one network."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from captchabench.alphabet import Alphabet
from captchabench.config import build
from captchabench.errors import InputError, first_line
from captchabench.models.base import Provenance, Recogniser
from captchabench.models.saved import About
from captchabench.models.segmentation.boxes import equal_boxes
from captchabench.networks.alternatives import as_alternatives
from captchabench.networks.device import choose_device, describe, float32, one_thread, precision_for, reading_batch
from captchabench.networks.heads import CTCNetwork, Head
from captchabench.networks.network import standardize
from captchabench.networks.readings import Alternative, Reading, Step, Steps
from captchabench.samples.shards import Labels, Samples, TextSpec
from captchabench.training.acceleration import Acceleration
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from captchabench.training.distributed import process_group
from captchabench.training.engine import train_network
from captchabench.training.feed import TensorSamples
from captchabench.training.run import TrainingRun

WEIGHTS_FILE = "weights.safetensors"
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
# Fifteen times those of the largest model here: 0.4 GB of weights, and four times that in training.
MAX_PARAMETERS = 100_000_000


class NeuralRecogniser(Recogniser):
    """A recogniser that is one network. A model builds it in `build_network`.

    steps_kind: what a position of the network's output is. acceleration: how training steps are run; None for what is
    fastest. trained: the last training.
    """

    libraries: ClassVar[tuple[str, ...]] = ("numpy", "opencv-python", "torch")
    steps_kind: ClassVar[Literal["time steps", "characters", "cells"]] = "cells"

    def __init__(self, spec: TextSpec, config: Any) -> None:
        super().__init__(spec, config)
        self.network = self.build_network()
        self.acceleration: Acceleration | None = None
        self.trained: TrainingRun | None = None
        # From `network_input` to log-probabilities; `run_by` replaces it.
        self._forward: Callable[[NDArray[np.uint8]], Tensor] = self._run_network

    @classmethod
    def from_parameters(cls, spec: TextSpec, parameters: Any, where: str) -> Self:
        """See Recogniser.from_parameters. A network that is far too large is refused before it takes memory."""
        try:
            with _at_most(MAX_PARAMETERS):
                return super().from_parameters(spec, parameters, where)
        except (RuntimeError, ValueError, ArithmeticError, TypeError) as error:
            raise InputError(f"{where}: do not make a network ({first_line(error)}); choose smaller values") from None

    @classmethod
    def blank(cls, about: About, parameters: Any, where: str) -> Self:
        """See Recogniser.blank. A network that is too large is refused before it takes memory."""
        try:
            with _at_most(about.parameter_count):
                return cls(about.spec, build(cls.config_class, parameters, where))
        except (RuntimeError, ValueError, ArithmeticError, TypeError) as error:
            raise InputError(f"{where}: do not make the network saved here ({first_line(error)})") from None

    @abstractmethod
    def build_network(self) -> Head:
        """An untrained network for `self.spec` and `self.config`. Its weights come from torch's global generator."""

    def warm_start(self, network: Head) -> None:
        """Load pretrained weights into `network` before training. By default training starts from random weights.

        Not called for a saved model. Raises InputError if the weights cannot be loaded.
        """

    def pretraining(self) -> str:
        """What `warm_start` loads, in words for tables; empty for nothing."""
        return ""

    def fit(
        self,
        train: Samples,
        validation: Samples,
        *,
        seed: int,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> list[CurvePoint]:
        """See Recogniser.fit."""
        return self.train(
            self.tensors(train), self.tensors(validation), seed=seed, progress=progress, checkpoints=checkpoints
        )

    def train(
        self,
        train: TensorSamples,
        validation: TensorSamples,
        *,
        seed: int,
        progress: bool,
        checkpoints: Checkpoints | None,
    ) -> list[CurvePoint]:
        """Build a new network with weights from `seed`, and train it. Returns the learning curve."""
        with process_group(), torch.random.fork_rng(), one_thread():
            torch.manual_seed(seed)
            self.network = self.build_network()
            self.warm_start(self.network)
            self.trained = train_network(
                self.network,
                train,
                validation,
                self.config.training,
                seed=seed,
                acceleration=self.acceleration,
                progress=progress,
                checkpoints=checkpoints,
            )
            return self.trained.curve

    def tensors(self, samples: Samples) -> TensorSamples:
        """The samples as tensors for the engine."""
        return TensorSamples(
            torch.from_numpy(samples.pixels),
            encode_labels(self.spec.alphabet, samples.labels, self.spec.max_length),
        )

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> Reading:
        """See Recogniser.predict."""
        texts: list[str] = []
        confidences = []
        for log_probs in self._log_probs(pixels):
            ids, log_probability = self.network.read(log_probs)
            texts += [self.spec.alphabet.decode(row[row >= 0]) for row in ids.cpu().numpy()]
            confidences.append(log_probability.exp().cpu().numpy())
        return Reading(texts, np.concatenate([np.empty(0, np.float32), *confidences]))

    @torch.inference_mode()
    def alternatives(self, pixels: NDArray[np.uint8], count: int) -> list[tuple[Alternative, ...]]:
        """See Recogniser.alternatives."""
        alternatives: list[tuple[Alternative, ...]] = []
        for log_probs in self._log_probs(pixels):
            ids, scores = (x.cpu().numpy() for x in self.network.alternatives(log_probs, count))
            alternatives += [
                as_alternatives(self.spec.alphabet, *of_image, count) for of_image in zip(ids, scores, strict=True)
            ]
        return alternatives

    @torch.inference_mode()
    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """See Recogniser.explain. The positions are columns of equal width; in a grid, its tiles."""
        explained = []
        for log_probs in self._log_probs(pixels):
            ids, best = (x.cpu().numpy() for x in self.network.best_classes(log_probs))
            boxes = equal_boxes(self.spec, ids.shape[1])
            for row, probabilities in zip(ids, np.exp(best).tolist(), strict=True):
                symbols = [self.spec.alphabet.decode([i] if i >= 0 else []) for i in row.tolist()]
                steps = (
                    Step(*box, symbol, probability)
                    for box, symbol, probability in zip(boxes, symbols, probabilities, strict=True)
                )
                explained.append(Steps(self.steps_kind, tuple(steps)))
        return explained

    def network_input(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The network's input for images [N, H, W], before `standardize`: [N, H', W'] uint8."""
        return pixels

    def run_by(self, forward: Callable[[NDArray[np.uint8]], Tensor]) -> None:
        """Use another runtime instead of the network. forward: from `network_input` to log-probabilities [B, P, K]."""
        self._forward = forward

    @property
    def parameter_count(self) -> int:
        """See Recogniser.parameter_count."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def provenance(self) -> Provenance:
        """See Recogniser.provenance."""
        return Provenance(self.pretraining(), precision_for(choose_device(), self.config.training.precision))

    def machine(self) -> dict[str, str | int]:
        """See Recogniser.machine."""
        # Training and reading run under `one_thread`.
        return {**super().machine(), **describe(choose_device())}

    def save_weights(self, folder: Path) -> None:
        """See Recogniser.save_weights."""
        weights = {k: v.contiguous().cpu() for k, v in self.network.state_dict().items()}
        # Not safetensors' own writer, which does not raise OSError if the disk is full.
        (folder / WEIGHTS_FILE).write_bytes(save(weights))
        self.save_rest(folder)

    def load_weights(self, folder: Path) -> None:
        """See Recogniser.load_weights."""
        path = folder / WEIGHTS_FILE
        try:
            _check_shapes(path, self.network)
            weights = load_file(path)
            if not all(bool(torch.isfinite(w).all()) for w in weights.values()):
                raise ValueError("not all numbers are finite")
            self.network.load_state_dict(weights)
        except (OSError, SafetensorError, RuntimeError, ValueError, MemoryError) as error:
            reason = first_line(error)
            raise InputError(f"{path}: does not hold this model's weights ({reason}); train the model again") from None
        self._prepare_network(choose_device())
        self.load_rest(folder)

    def save_rest(self, folder: Path) -> None:
        """Write what was learned besides the network's weights into `folder`."""

    def load_rest(self, folder: Path) -> None:
        """Read what `save_rest` wrote. Raises InputError if it does not fit this model."""

    def _prepare_network(self, device: torch.device) -> None:
        """Move the network to `device` and set it to evaluation mode."""
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
        self.network.eval()

    def _log_probs(self, pixels: NDArray[np.uint8]) -> Iterator[Tensor]:
        """Yield the log-probabilities of the images, one batch at a time: [B, P, K] on the device."""
        size = reading_batch(*pixels.shape[1:])
        for start in range(0, len(pixels), size):
            yield self._log_probs_of_batch(pixels[start : start + size])

    def _log_probs_of_batch(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Log-probabilities of one batch of images [B, H, W]: [B, P, K] on the device."""
        return self._forward(self.network_input(pixels))

    def _run_network(self, images: NDArray[np.uint8]) -> Tensor:
        device = choose_device()
        if self.network.training:
            self._prepare_network(device)
        with one_thread(), float32():
            standardized = standardize(torch.from_numpy(images).to(device))
            log_probs: Tensor = self.network(standardized.contiguous(memory_format=torch.channels_last))
        return log_probs


class CTCRecogniser(NeuralRecogniser):
    """A neural recogniser read by CTC, which also gives the loss of a label."""

    steps_kind = "time steps"
    network: CTCNetwork

    def _log_probs_of_batch(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See NeuralRecogniser. With `decoding.shift_average`, the mean over the image and four shifted copies."""
        if not self.network.decoding.shift_average:
            return super()._log_probs_of_batch(pixels)
        views = [super(CTCRecogniser, self)._log_probs_of_batch(view) for view in _shifted(pixels)]
        return torch.stack(views).mean(dim=0).log_softmax(dim=2)

    @torch.inference_mode()
    def losses(self, pixels: NDArray[np.uint8], labels: Labels) -> NDArray[np.float32]:
        """See Recogniser.losses."""
        targets = encode_labels(self.spec.alphabet, labels, self.spec.max_length)
        losses = [np.empty(0, np.float32)]
        start = 0
        for log_probs in self._log_probs(pixels):
            of_batch = targets[start : start + len(log_probs)].to(log_probs.device)
            losses.append(self.network.losses(log_probs, of_batch, (of_batch >= 0).sum(dim=1)).cpu().numpy())
            start += len(log_probs)
        return np.concatenate(losses)


def _shifted(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The images [B, H, W], and copies shifted by one pixel left, right, up and down. Border pixels are repeated."""
    _, height, width = pixels.shape
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    corners = ((1, 1), (1, 2), (1, 0), (2, 1), (0, 1))
    return [np.ascontiguousarray(padded[:, top : top + height, left : left + width]) for top, left in corners]


def _check_shapes(path: Path, network: nn.Module) -> None:
    """Compare the header of the file at `path` with `network`, before any weight is read.

    Raises ValueError if names, shapes or dtypes differ.
    """
    expected = {name: (list(t.shape), t.dtype) for name, t in network.state_dict().items()}
    with safe_open(path, "pt") as file:
        stored = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        for name in sorted(expected.keys() ^ stored.keys()):
            raise ValueError(f"{name} is {'missing' if name in expected else 'unknown'}")
        for name, (shape, dtype) in expected.items():
            if stored[name].get_shape() != shape or stored[name].get_dtype() != _DTYPES.get(dtype):
                raise ValueError(f"{name} is {stored[name].get_dtype()} {stored[name].get_shape()}, not {shape}")


def encode_labels(alphabet: Alphabet, labels: Labels, width: int) -> Tensor:
    """Class ids of the labels: [N, width] int64, padded with -1."""
    targets = np.full((len(labels), width), -1, np.int64)
    for row, label in zip(targets, labels, strict=True):
        row[: len(label)] = alphabet.encode(label)
    return torch.from_numpy(targets)


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Raise ValueError as soon as a network built in this context has more weights than `parameters`."""
    # A few weights are registered twice while a network is built.
    remaining = 2 * parameters

    def count(module: nn.Module, name: str, weight: nn.Parameter) -> None:
        nonlocal remaining
        remaining -= weight.numel()
        if remaining < 0:
            raise ValueError(f"more than {parameters:,} numbers")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
