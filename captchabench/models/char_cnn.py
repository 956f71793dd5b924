"""A small CNN on segmented characters: each is classified by itself, without its neighbours."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captchabench.config import Between, Positive
from captchabench.models import RECOGNISERS
from captchabench.models.neural import NeuralRecogniser, encode_labels
from captchabench.models.segmentation.crops import HEIGHT
from captchabench.models.segmentation.tiles import segmenter_for
from captchabench.networks.front import conv_block
from captchabench.networks.heads import PositionNetwork
from captchabench.networks.readings import Steps
from captchabench.samples.shards import Labels, Samples, TextSpec
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from captchabench.training.feed import TensorSamples
from captchabench.training.settings import TrainingConfig

SEGMENTER_FILE = "segmenter.npz"
# Added to the standard deviation of a crop, in units of that of the whole row, so that flat crops stay flat.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Config:
    """Parameters of char_cnn."""

    channels: tuple[Positive, Positive, Positive, Positive] = (32, 64, 128, 128)
    dropout: Annotated[float, Between(0, 0.9)] = 0.2
    training: TrainingConfig = field(default_factory=TrainingConfig)


class Encoder(nn.Module):
    """Four convolutions over each crop of a row of crops. width: of a crop, in pixels."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.width = width
        widths = (1, *config.channels)
        blocks: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            blocks += [conv_block(inputs, outputs), nn.MaxPool2d(2)]
        # The last feature map has 4 rows: another pooling would lose the position of strokes.
        self.blocks = nn.Sequential(*blocks[:-1])
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, 1, 32, L * W] to [B, L, F]. Each crop is standardized by itself."""
        batch, _, height, width = rows.shape
        crops = rows.reshape(batch, height, width // self.width, self.width).transpose(1, 2)
        crops = crops - crops.mean(dim=(2, 3), keepdim=True)
        crops = crops / (crops.square().mean(dim=(2, 3), keepdim=True).sqrt() + _LEAST_SPREAD)
        crops = crops.reshape(-1, 1, height, self.width)
        features: Tensor = self.dropout(self.blocks(crops).flatten(1))
        return features.view(batch, width // self.width, -1)


@RECOGNISERS.register
class CharCnn(NeuralRecogniser):
    """The segmenter of hog_svc, and a four-layer CNN on each character or on each tile of a grid.

    The network's input is a row of crops, [32, L * W] pixels, and it reads one character per crop. So its learning
    curve shows the exact match of whole texts, like those of other models.
    """

    config_class = Config
    steps_kind = "characters"

    def __init__(self, spec: TextSpec, config: Config) -> None:
        self.segmenter = segmenter_for(spec)
        super().__init__(spec, config)

    def build_network(self) -> PositionNetwork:
        """See NeuralRecogniser.build_network."""
        spec, width = self.spec, self.segmenter.crop_width
        row = TextSpec(spec.alphabet, spec.min_length, spec.max_length, HEIGHT, spec.max_length * width)
        network = PositionNetwork(row, Encoder(self.config, width))
        network.pieces = (1, spec.max_length)
        return network

    def fit(
        self,
        train: Samples,
        validation: Samples,
        *,
        seed: int,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> list[CurvePoint]:
        """See Recogniser.fit. Each training image is segmented twice: by its label, and without, as in reading.

        From the first the network learns what characters look like, from the second how to read inexact crops.
        """
        self.segmenter = segmenter_for(self.spec)
        self.segmenter.fit(train.pixels, train.labels)
        images = np.concatenate([self._rows(train.pixels, train.labels), self._rows(train.pixels)])
        targets = encode_labels(self.spec.alphabet, train.labels, self.spec.max_length)
        tensors = TensorSamples(torch.from_numpy(images), targets.repeat(2, 1))
        return self.train(tensors, self.tensors(validation), seed=seed, progress=progress, checkpoints=checkpoints)

    def network_input(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See NeuralRecogniser.network_input: rows of crops."""
        return self._rows(pixels)

    def explain(self, pixels: NDArray[np.uint8]) -> list[Steps]:
        """See Recogniser.explain."""
        return self.segmenter.locate(pixels, super().explain(pixels))

    @property
    def parameter_count(self) -> int:
        """See Recogniser.parameter_count."""
        return super().parameter_count + self.segmenter.parameter_count

    def save_rest(self, folder: Path) -> None:
        """See NeuralRecogniser.save_rest."""
        self.segmenter.save(folder / SEGMENTER_FILE)

    def load_rest(self, folder: Path) -> None:
        """See NeuralRecogniser.load_rest."""
        self.segmenter.load(folder / SEGMENTER_FILE)

    def tensors(self, samples: Samples, labels: Labels | None = None) -> TensorSamples:
        """The samples as rows of crops. labels: those of the samples, to segment by them; None to segment without."""
        targets = encode_labels(self.spec.alphabet, samples.labels, self.spec.max_length)
        return TensorSamples(torch.from_numpy(self._rows(samples.pixels, labels)), targets)

    def _rows(self, pixels: NDArray[np.uint8], labels: Labels | None = None) -> NDArray[np.uint8]:
        """The characters of each image side by side: [N, 32, L * W]. labels: segment by them, if given."""
        crops = self.segmenter.segment(pixels, labels).crops
        count, length, _, width = crops.shape
        return np.ascontiguousarray(crops.transpose(0, 2, 1, 3).reshape(count, HEIGHT, length * width))
