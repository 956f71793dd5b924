"""CNN-Transformer with CTC: convolutions, learned positions, self-attention (Vaswani et al., arXiv:1706.03762)."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from captchabench.config import Between, Positive
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.neural import CTCRecogniser
from captchabench.networks.front import Channels, ConvFront
from captchabench.networks.heads import CTCNetwork, Decoding
from captchabench.training.settings import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Parameters of cnn_transformer."""

    channels: Channels = (64, 128, 256)
    stem_stride: Literal[1, 2] = 1
    dimension: Positive = 128
    heads: Positive = 8
    feedforward: Positive = 512
    layers: Annotated[int, Between(1, 100)] = 2
    dropout: Annotated[float, Between(0, 0.9)] = 0.1
    blank_bias: Annotated[float, Between(-100, 100)] = 0.0
    decoding: Decoding = field(default_factory=Decoding)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.dimension % self.heads:
            raise InputError(
                f"models.cnn_transformer: dimension {self.dimension} is not a multiple of the number of heads, "
                f"{self.heads}; choose a multiple"
            )


class Encoder(nn.Module):
    """Columns of features, each attending to all others."""

    def __init__(self, config: Config, height: int, width: int) -> None:
        super().__init__()
        self.front = ConvFront(config.channels, stem_stride=config.stem_stride, last_dilation=2)
        self.project = nn.Linear(config.channels[-1] * (height // 8), config.dimension)
        self.positions = nn.Parameter(0.02 * torch.randn(width // 4 + 1, config.dimension))
        layer = nn.TransformerEncoderLayer(
            config.dimension,
            config.heads,
            config.feedforward,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, config.layers, norm=nn.LayerNorm(config.dimension), enable_nested_tensor=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, W/4, dimension]."""
        columns = self.project(self.front(images))
        steps: Tensor = self.layers(columns + self.positions[: columns.shape[1]])
        return steps


@RECOGNISERS.register
class CnnTransformer(CTCRecogniser):
    """Convolutions, learned positions, a Transformer encoder, CTC."""

    config_class = Config

    def build_network(self) -> CTCNetwork:
        """See NeuralRecogniser.build_network."""
        config: Config = self.config
        return CTCNetwork(
            self.spec,
            Encoder(config, self.spec.height, self.spec.width),
            blank_bias=config.blank_bias,
            decoding=config.decoding,
        )
