"""The interface of every recogniser."""

import platform
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from captchabench.config import build
from captchabench.models.saved import About, write_config
from captchabench.networks.processor import instructions, library_versions, processor
from captchabench.networks.readings import Alternative, Reading, Steps
from captchabench.samples.shards import Labels, Samples, ShardInfo, TextSpec
from captchabench.training.checkpoints import Checkpoints, CurvePoint


@dataclass(frozen=True)
class Provenance:
    """The initial weights of a training and the precision of its arithmetic, as the tables show them.

    pretraining: the initial weights, and the images that they were trained on; empty for none. precision: of a
    network's arithmetic in training, float32 or bfloat16; empty if no network is trained.
    """

    pretraining: str = ""
    precision: str = ""


class Recogniser(ABC):
    """Reads texts from grey images of one size.

    A model is one file in `captchabench/models/` with a subclass of this, which is registered under the name of the
    file. Its parameters are a frozen dataclass, the `config_class`. `build_recogniser` makes an untrained recogniser,
    `load_recogniser` loads a trained one. libraries: the packages that its numbers are computed with.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[Any]]
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "opencv-python", "scipy")

    def __init_subclass__(cls) -> None:
        """Name the model after its file."""
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
        """Train on `train`, and choose the best weights on `validation`. Returns the learning curve, one point or more.

        Equal samples, seed and parameters give equal weights on a CPU. progress: show a progress bar. checkpoints: a
        model that trains for long writes them and resumes from them.
        """

    @abstractmethod
    def predict(self, pixels: NDArray[np.uint8]) -> Reading:
        """Read images. pixels: [N, H, W] uint8; N may be 0."""

    def losses(self, pixels: NDArray[np.uint8], labels: Labels) -> NDArray[np.float32] | None:
        """The negative log-likelihood in nats of each label under CTC: [N] float32. None for models without CTC."""
        return None

    def alternatives(self, pixels: NDArray[np.uint8], count: int) -> list[tuple[Alternative, ...]]:
        """The likeliest texts of each image, at most `count`, best first. pixels: [N, H, W] uint8.

        By default only the text that `predict` returns.
        """
        reading = self.predict(pixels)
        return [(Alternative(*pair),) for pair in zip(reading.texts, reading.confidences.tolist(), strict=True)]

    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """How each image was read. pixels: [N, H, W] uint8."""
        return [Steps("none", ())] * len(pixels)

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """The number of learned numbers."""

    @property
    def provenance(self) -> Provenance:
        """What a training of this model on this machine starts from, and how it computes."""
        return Provenance()

    def machine(self) -> dict[str, str | int]:
        """What times and numbers of this model depend on, besides the program: device, threads, processor, libraries.

        Deep models add the torch version.
        """
        return {
            "device": f"cpu ({platform.machine()})",
            "threads": 1,
            "processor": processor(),
            "instructions": instructions(),
            "libraries": library_versions(self.libraries),
        }

    @abstractmethod
    def save_weights(self, folder: Path) -> None:
        """Write the weights as .safetensors or .npz files into `folder`."""

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Read what `save_weights` wrote. Raises InputError if it does not fit this model."""

    def save(self, folder: Path, info: ShardInfo, fold: int) -> None:
        """Write config.json and the weights into the existing `folder`.

        info: of the shards that it was trained on. fold: the one that was held out.
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
        """An untrained recogniser from its section of params.yaml. where: prefix of messages. Raises InputError."""
        return cls(spec, build(cls.config_class, parameters, where))

    @classmethod
    def blank(cls, about: About, parameters: Any, where: str) -> Self:
        """An untrained recogniser for the weights of a saved model. where: prefix of error messages.

        Raises InputError if the parameters make a larger model than `about` says.
        """
        return cls.from_parameters(about.spec, parameters, where)
