"""The contract that every recogniser keeps."""

import json
import os
import platform
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from captchabench.alphabet import Alphabet
from captchabench.config import build
from captchabench.data.shards import Labels, Samples, TextSpec
from captchabench.errors import InputError
from captchabench.files import write_json
from captchabench.training.curve import CurvePoint

CONFIG_FILE = "config.json"
FORMAT = 1


@dataclass(frozen=True)
class Reading:
    """What a recogniser read: N texts and [N] float32 confidences, the probability of the whole word."""

    texts: list[str]
    confidences: np.ndarray


class Recogniser(ABC):
    """Reads texts from grey images of one size.

    A model is one file in `captchabench/models/` that subclasses this, names its parameters in a frozen
    dataclass, its `config_class`, and registers itself under the file's name. `build_recogniser` makes one,
    `load_recogniser` brings one back from disk.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]

    def __init__(self, spec: TextSpec, config: Any) -> None:
        self.spec = spec
        self.config = config

    @abstractmethod
    def fit(self, train: Samples, validation: Samples, *, seed: int, progress: bool = False) -> list[CurvePoint]:
        """Learn from `train`, choosing on `validation`; return the learning curve (at least one point).

        Equal samples, seed and parameters give equal weights on a CPU.
        """

    @abstractmethod
    def predict(self, pixels: np.ndarray) -> Reading:
        """Read images. pixels: [N, H, W] uint8, of any N, zero included."""

    def losses(self, pixels: np.ndarray, labels: Labels) -> np.ndarray | None:
        """Negative log-likelihood in nats of each label under CTC: [N] float32. None for other models."""
        return None

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """The number of learned numbers."""

    def machine(self) -> dict[str, str | int]:
        """What a timing of this model was taken on: device, threads. Deep models add more."""
        return {"device": f"cpu ({platform.machine()})", "threads": os.cpu_count() or 1}

    @abstractmethod
    def save_weights(self, folder: Path) -> None:
        """Write the weights as .safetensors or .npz files into `folder`."""

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Read what `save_weights` wrote. Raises InputError where it does not fit."""

    def save(self, folder: Path) -> None:
        """Write config.json and the weights into the existing `folder`."""
        write_json(
            folder / CONFIG_FILE,
            {
                "format": FORMAT,
                "model": self.name,
                "spec": {**asdict(self.spec), "alphabet": self.spec.alphabet.symbols},
                "parameters": asdict(self.config),
            },
        )
        self.save_weights(folder)

    @classmethod
    def from_parameters(cls, spec: TextSpec, parameters: Any, where: str) -> Self:
        """Make an untrained recogniser from a section of params.yaml; `where` prefixes error messages."""
        return cls(spec, build(cls.config_class, parameters, where))


def read_spec(folder: Path) -> tuple[str, TextSpec, dict[str, Any]]:
    """Name, spec and parameters of the model saved in `folder`. Raises InputError if it is not ours."""
    path = folder / CONFIG_FILE
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise InputError(f"{path}: format {saved['format']}, this program reads {FORMAT}; train it anew")
        spec = saved["spec"]
        text = TextSpec(
            Alphabet(spec["alphabet"]), spec["min_length"], spec["max_length"], spec["height"], spec["width"]
        )
        return saved["model"], text, saved["parameters"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder that `train` wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a saved model's config ({error!r})") from None
