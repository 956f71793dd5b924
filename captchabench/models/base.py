"""The contract that every recogniser keeps."""

import platform
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from captchabench.config import build
from captchabench.models.saved import About, write_config
from captchabench.networks.readings import Alternative, Reading, Steps
from captchabench.samples.shards import Labels, Samples, ShardInfo, TextSpec
from captchabench.training.checkpoints import Checkpoints, CurvePoint


@dataclass(frozen=True)
class Provenance:
    """What a training starts from and how it computes, in words for tables.

    pretraining: the weights that were there before, and the images that they come from; empty where there are none.
    precision: of a network's arithmetic, float32 or bfloat16; empty where no network is trained.
    """

    pretraining: str = ""
    precision: str = ""


class Recogniser(ABC):
    """Reads texts from grey images of one size.

    A model is one file in `captchabench/models/` that subclasses this, names its parameters in a frozen
    dataclass, its `config_class`, and registers itself; its name is that of the file. `build_recogniser` makes one,
    `load_recogniser` brings one back from disk.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]

    def __init_subclass__(cls) -> None:
        """A model is called like its file."""
        cls.name = cls.__module__.rpartition(".")[2]

    def __init__(self, spec: TextSpec, config: Any) -> None:
        self.spec = spec
        self.config = config

    @abstractmethod
    def fit(
        self,
        train: Samples,
        validation: Samples,
        *,
        seed: int,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> list[CurvePoint]:
        """Learn from `train`, choosing on `validation`; return the learning curve (at least one point).

        Equal samples, seed and parameters give equal weights on a CPU. A model that takes long keeps `checkpoints` and
        goes on from them.
        """

    @abstractmethod
    def predict(self, pixels: NDArray[np.uint8]) -> Reading:
        """Read images. pixels: [N, H, W], of any N, zero included."""

    def losses(self, pixels: NDArray[np.uint8], labels: Labels) -> NDArray[np.float32] | None:
        """Negative log-likelihood in nats of each label under CTC: [N]. None for other models."""
        return None

    def alternatives(self, pixels: NDArray[np.uint8], count: int) -> list[tuple[Alternative, ...]]:
        """The likeliest texts of each image, at most `count` of them, best first. pixels: [N, H, W].

        A model that weighs no others has its reading alone.
        """
        reading = self.predict(pixels)
        return [(Alternative(*pair),) for pair in zip(reading.texts, reading.confidences.tolist(), strict=True)]

    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """How each image was read. pixels: [N, H, W]."""
        return [Steps("none", ())] * len(pixels)

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """The number of learned numbers."""

    @property
    def provenance(self) -> Provenance:
        """What training this model starts from here, and how it computes."""
        return Provenance()

    def machine(self) -> dict[str, str | int]:
        """What a timing of this model was taken on: device, threads. Deep models add more."""
        return {"device": f"cpu ({platform.machine()})", "threads": 1}

    @abstractmethod
    def save_weights(self, folder: Path) -> None:
        """Write the weights as .safetensors or .npz files into `folder`."""

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Read what `save_weights` wrote. Raises InputError where it does not fit."""

    def save(self, folder: Path, info: ShardInfo, fold: int) -> None:
        """Write config.json and the weights into the existing `folder`.

        `info`: of the shards it was trained on, all folds but `fold`.
        """
        self.save_weights(folder)
        about = About(
            model=self.name,
            fold=fold,
            parameter_count=self.parameter_count,
            **vars(info),
            **vars(self.provenance),
        )
        write_config(folder, about, asdict(self.config))

    @classmethod
    def from_parameters(cls, spec: TextSpec, parameters: Any, where: str) -> Self:
        """Make an untrained recogniser from a section of params.yaml; `where` prefixes error messages."""
        return cls(spec, build(cls.config_class, parameters, where))

    @classmethod
    def blank(cls, about: About, parameters: Any, where: str) -> Self:
        """Like `from_parameters`, for the weights of a model to be loaded into.

        Raises InputError where the parameters make a larger model than `about` says.
        """
        return cls.from_parameters(about.spec, parameters, where)
