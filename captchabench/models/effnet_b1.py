"""EfficientNet-B1 (Tan and Le, ICML 2019, arXiv:1905.11946), its feature map read one cell a character."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import timm
from torch import Tensor, nn

from captchabench.config import Between
from captchabench.models import RECOGNISERS
from captchabench.models.parts.heads import PositionNetwork
from captchabench.models.parts.neural import NeuralRecogniser
from captchabench.training.settings import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Parameters of the effnet_b1. `pretrained` fetches timm's ImageNet weights when training starts."""

    pretrained: bool = False
    # Width in pixels that a column of the feature map covers; below 32 the last stages stride in height alone.
    column_stride: Literal[8, 16, 32] = 16
    dropout: Annotated[float, Between(0, 0.9)] = 0.1
    drop_path: Annotated[float, Between(0, 0.9)] = 0.0
    training: TrainingConfig = field(default_factory=TrainingConfig)


class Encoder(nn.Module):
    """EfficientNet-B1's features, pooled to a row of one cell a character."""

    def __init__(self, config: Config, cells: int) -> None:
        super().__init__()
        self.features = timm.create_model(
            "efficientnet_b1",
            pretrained=config.pretrained,
            in_chans=1,
            num_classes=0,
            global_pool="",
            drop_path_rate=config.drop_path,
        )
        striding = [m for m in self.features.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        for convolution in striding[int(math.log2(config.column_stride)) :]:
            convolution.stride = (2, 1)
        self.pool = nn.AdaptiveAvgPool2d((1, cells))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, L, 1280]."""
        return self.dropout(self.pool(self.features(images)).squeeze(2).transpose(1, 2))


@RECOGNISERS.register("effnet_b1")
class EffnetB1(NeuralRecogniser):
    """EfficientNet-B1, one cell of its feature map a character."""

    name = "effnet_b1"
    config_class = Config

    def build_network(self) -> PositionNetwork:
        """See NeuralRecogniser.build_network."""
        return PositionNetwork(self.spec, Encoder(self.config, self.spec.max_length))
