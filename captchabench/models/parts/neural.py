"""What the deep models share: tensors in, training by the engine, safetensors out."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from captchabench.alphabet import Alphabet
from captchabench.data.shards import Labels, Samples, TextSpec
from captchabench.errors import InputError
from captchabench.models.base import Reading, Recogniser
from captchabench.training.curve import CurvePoint
from captchabench.training.device import choose_device, describe, mixed_precision, threads
from captchabench.training.distributed import process_group
from captchabench.training.engine import train_network
from captchabench.training.feed import TensorSamples
from captchabench.training.network import Network, standardize

WEIGHTS_FILE = "weights.safetensors"


class NeuralRecogniser(Recogniser):
    """A recogniser whose reading is one network's. A model says how that is built, in `build_network`."""

    batch_size: ClassVar[int] = 512

    def __init__(self, spec: TextSpec, config: Any) -> None:
        super().__init__(spec, config)
        self.network = self.build_network()

    @abstractmethod
    def build_network(self) -> Network:
        """An untrained network for `self.spec` and `self.config`; weights from torch's global generator."""

    def fit(self, train: Samples, validation: Samples, *, seed: int, progress: bool = False) -> list[CurvePoint]:
        """See Recogniser.fit."""
        return self.train(self.tensors(train), self.tensors(validation), seed=seed, progress=progress)

    def train(self, train: TensorSamples, validation: TensorSamples, *, seed: int, progress: bool) -> list[CurvePoint]:
        """Build the network anew, seeded, and train it."""
        with process_group(), torch.random.fork_rng(), threads(self.config.training.threads):
            torch.manual_seed(seed)
            self.network = self.build_network()
            run = train_network(self.network, train, validation, self.config.training, seed=seed, progress=progress)
            return run.curve

    def tensors(self, samples: Samples) -> TensorSamples:
        """The samples as the engine takes them."""
        return TensorSamples(
            torch.from_numpy(samples.pixels),
            encode_labels(self.spec.alphabet, samples.labels, self.spec.max_length),
        )

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> Reading:
        """See Recogniser.predict."""
        texts: list[str] = []
        confidences = []
        for log_probs in self._log_probs(pixels):
            ids, log_probability = self.network.read(log_probs)
            texts += [self.spec.alphabet.decode(row[row >= 0]) for row in ids.cpu().numpy()]
            confidences.append(log_probability.exp().cpu().numpy())
        return Reading(texts, np.concatenate([np.empty(0, np.float32), *confidences]))

    @property
    def parameter_count(self) -> int:
        """See Recogniser.parameter_count."""
        return sum(p.numel() for p in self.network.parameters())

    def machine(self) -> dict[str, str | int]:
        """See Recogniser.machine."""
        return {**describe(choose_device()), "threads": self.config.training.threads}

    def save_weights(self, folder: Path) -> None:
        """See Recogniser.save_weights."""
        weights = {k: v.contiguous().cpu() for k, v in self.network.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE)

    def load_weights(self, folder: Path) -> None:
        """See Recogniser.load_weights."""
        path = folder / WEIGHTS_FILE
        try:
            self.network.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: does not hold this model's weights ({reason}); train it anew") from None
        self._place(choose_device())

    def _place(self, device: torch.device) -> None:
        """Make the network ready to read on `device`."""
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.eval()

    def _log_probs(self, pixels: np.ndarray) -> Iterator[Tensor]:
        """What the network makes of the images, a batch at a time: [B, P, K] on the device."""
        device = choose_device()
        if self.network.training:
            self._place(device)
        for start in range(0, len(pixels), self.batch_size):
            with threads(self.config.training.threads), mixed_precision(device):
                images = standardize(torch.from_numpy(pixels[start : start + self.batch_size]).to(device))
                log_probs = self.network(images.contiguous(memory_format=torch.channels_last))
            yield log_probs


class CTCRecogniser(NeuralRecogniser):
    """A neural recogniser read by CTC: it can also say how likely a given label was."""

    @torch.inference_mode()
    def losses(self, pixels: np.ndarray, labels: Labels) -> np.ndarray:
        """See Recogniser.losses."""
        targets = encode_labels(self.spec.alphabet, labels, self.spec.max_length)
        found = [np.empty(0, np.float32)]
        start = 0
        for log_probs in self._log_probs(pixels):
            wanted = targets[start : start + len(log_probs)].to(log_probs.device)
            found.append(self.network.losses(log_probs, wanted, (wanted >= 0).sum(dim=1)).cpu().numpy())
            start += len(log_probs)
        return np.concatenate(found)


def encode_labels(alphabet: Alphabet, labels: Labels, width: int) -> Tensor:
    """Class ids of the labels: [N, width] int64, padded with -1."""
    targets = np.full((len(labels), width), -1, np.int64)
    for row, label in zip(targets, labels, strict=True):
        row[: len(label)] = alphabet.encode(label)
    return torch.from_numpy(targets)
