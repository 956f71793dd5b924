"""What the deep models share: tensors in, training by the engine, safetensors out."""

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
from captchabench.networks.device import choose_device, describe, float32, one_thread, precision_for, reading_batch
from captchabench.networks.heads import Head
from captchabench.networks.network import standardize
from captchabench.networks.readings import Alternative, Reading, Step, Steps
from captchabench.networks.words import as_alternatives
from captchabench.samples.shards import Labels, Samples, TextSpec
from captchabench.training.acceleration import Acceleration
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from captchabench.training.distributed import process_group
from captchabench.training.engine import train_network
from captchabench.training.feed import TensorSamples
from captchabench.training.run import TrainingRun

WEIGHTS_FILE = "weights.safetensors"
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
# Fifteen times those of the largest model here; 0.4 GB, and four times that in training.
MOST_PARAMETERS = 100_000_000


class NeuralRecogniser(Recogniser):
    """A recogniser whose reading is one network's. A model says how that is built, in `build_network`."""

    batch_size: ClassVar[int] = 512
    steps_kind: ClassVar[Literal["time steps", "characters", "cells"]] = "cells"

    def __init__(self, spec: TextSpec, config: Any) -> None:
        super().__init__(spec, config)
        self.network = self.build_network()
        # How training steps are to be run; None takes what pays. And what the last training was.
        self.acceleration: Acceleration | None = None
        self.trained: TrainingRun | None = None
        self._forward: Callable[[NDArray[np.uint8]], Tensor] = self._run_network

    @classmethod
    def from_parameters(cls, spec: TextSpec, parameters: Any, where: str) -> Self:
        """See Recogniser.from_parameters. A network that is absurdly large is given up before it takes memory."""
        try:
            with _at_most(MOST_PARAMETERS):
                return super().from_parameters(spec, parameters, where)
        except (RuntimeError, ValueError, ArithmeticError, TypeError) as error:
            raise InputError(f"{where}: do not make a network ({first_line(error)}); choose smaller ones") from None

    @classmethod
    def blank(cls, about: About, parameters: Any, where: str) -> Self:
        """See Recogniser.blank. A network that is too large is given up before it takes memory."""
        try:
            with _at_most(about.parameter_count):
                return cls(about.spec, build(cls.config_class, parameters, where))
        except (RuntimeError, ValueError, ArithmeticError, TypeError) as error:
            raise InputError(f"{where}: do not make the network saved here ({first_line(error)})") from None

    @abstractmethod
    def build_network(self) -> Head:
        """An untrained network for `self.spec` and `self.config`; weights from torch's global generator."""

    def warm_start(self, network: Head) -> None:
        """Give `network`, about to be trained, weights to start from; without them it starts from random ones.

        A saved model is loaded without. Raises InputError where they cannot be had.
        """

    def pretraining(self) -> str:
        """What `warm_start` gives, in words for tables; empty where that is nothing."""
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
        tensors = self.tensors(train), self.tensors(validation)
        return self.train(*tensors, seed=seed, progress=progress, checkpoints=checkpoints)

    def train(
        self,
        train: TensorSamples,
        validation: TensorSamples,
        *,
        seed: int,
        progress: bool,
        checkpoints: Checkpoints | None,
    ) -> list[CurvePoint]:
        """Build the network anew, seeded, and train it."""
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
        """The samples as the engine takes them."""
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
        found = []
        for log_probs in self._log_probs(pixels):
            texts, totals = (x.cpu().numpy() for x in self.network.alternatives(log_probs, count))
            found += [as_alternatives(self.spec.alphabet, *one, count) for one in zip(texts, totals, strict=True)]
        return found

    @torch.inference_mode()
    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """See Recogniser.explain. The places are columns of equal width, of a grid its tiles."""
        found = []
        for log_probs in self._log_probs(pixels):
            ids, best = (x.cpu().numpy() for x in self.network.best_classes(log_probs))
            boxes = equal_boxes(self.spec, ids.shape[1])
            for row, scores in zip(ids, np.exp(best).tolist(), strict=True):
                symbols = [self.spec.alphabet.decode([i] if i >= 0 else []) for i in row.tolist()]
                steps = (Step(*box, *read) for box, *read in zip(boxes, symbols, scores, strict=True))
                found.append(Steps(self.steps_kind, tuple(steps)))
        return found

    def network_input(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the network is given for images [N, H, W], before `standardize`: [N, H', W']."""
        return pixels

    def run_by(self, forward: Callable[[NDArray[np.uint8]], Tensor]) -> None:
        """Let another runtime stand in for the network. forward: `network_input` to log-probabilities [B, P, K]."""
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
        return {**describe(choose_device()), "threads": 1}

    def save_weights(self, folder: Path) -> None:
        """See Recogniser.save_weights."""
        weights = {k: v.contiguous().cpu() for k, v in self.network.state_dict().items()}
        # Its own writer has errors of its own where the disk is full.
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
            raise InputError(f"{path}: does not hold this model's weights ({reason}); train it anew") from None
        self._place(choose_device())
        self.load_rest(folder)

    def save_rest(self, folder: Path) -> None:
        """Write what was learned beside the network into `folder`."""

    def load_rest(self, folder: Path) -> None:
        """Read what `save_rest` wrote. Raises InputError where it does not fit."""

    def _place(self, device: torch.device) -> None:
        """Make the network ready to read on `device`."""
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
        self.network.eval()

    def _log_probs(self, pixels: NDArray[np.uint8]) -> Iterator[Tensor]:
        """What the network makes of the images, a batch at a time: [B, P, K] on the device."""
        size = reading_batch(self.batch_size)
        for start in range(0, len(pixels), size):
            yield self._forward(self.network_input(pixels[start : start + size]))

    def _run_network(self, images: NDArray[np.uint8]) -> Tensor:
        device = choose_device()
        if self.network.training:
            self._place(device)
        with one_thread(), float32():
            standardized = standardize(torch.from_numpy(images).to(device))
            log_probs: Tensor = self.network(standardized.contiguous(memory_format=torch.channels_last))
        return log_probs


class CTCRecogniser(NeuralRecogniser):
    """A neural recogniser read by CTC: it can also say how likely a given label was."""

    steps_kind = "time steps"

    @torch.inference_mode()
    def losses(self, pixels: NDArray[np.uint8], labels: Labels) -> NDArray[np.float32]:
        """See Recogniser.losses."""
        targets = encode_labels(self.spec.alphabet, labels, self.spec.max_length)
        found = [np.empty(0, np.float32)]
        start = 0
        for log_probs in self._log_probs(pixels):
            wanted = targets[start : start + len(log_probs)].to(log_probs.device)
            found.append(self.network.losses(log_probs, wanted, (wanted >= 0).sum(dim=1)).cpu().numpy())
            start += len(log_probs)
        return np.concatenate(found)


def _check_shapes(path: Path, network: nn.Module) -> None:
    """Compare the header of the file at `path` with `network`, before anything is read or takes memory.

    Raises ValueError where they differ.
    """
    wanted = {name: (list(t.shape), t.dtype) for name, t in network.state_dict().items()}
    with safe_open(path, "pt") as file:
        held = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        for name in sorted(wanted.keys() ^ held.keys()):
            raise ValueError(f"{name} is {'missing' if name in wanted else 'too much'}")
        for name, (shape, dtype) in wanted.items():
            if held[name].get_shape() != shape or held[name].get_dtype() != _DTYPES.get(dtype):
                raise ValueError(f"{name} is {held[name].get_dtype()} {held[name].get_shape()}, not {shape}")


def encode_labels(alphabet: Alphabet, labels: Labels, width: int) -> Tensor:
    """Class ids of the labels: [N, width] int64, padded with -1."""
    targets = np.full((len(labels), width), -1, np.int64)
    for row, label in zip(targets, labels, strict=True):
        row[: len(label)] = alphabet.encode(label)
    return torch.from_numpy(targets)


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Raise ValueError as soon as a network put together here has more numbers than that."""
    # A few weights are registered twice while a network is put together.
    left = 2 * parameters

    def count(module: nn.Module, name: str, weight: nn.Parameter) -> None:
        nonlocal left
        left -= weight.numel()
        if left < 0:
            raise ValueError(f"more than {parameters:,} numbers")

    watch = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        watch.remove()
