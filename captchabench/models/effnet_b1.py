"""EfficientNet-B1 (Tan and Le, ICML 2019, arXiv:1905.11946), its feature map read one cell a character or tile."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import timm
from torch import Tensor, nn

from captchabench.config import Between
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.parts.about import About
from captchabench.models.parts.backbone import load_backbone
from captchabench.models.parts.heads import PositionNetwork
from captchabench.models.parts.neural import NeuralRecogniser
from captchabench.training.settings import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Parameters of the effnet_b1.

    `pretrained` fetches timm's ImageNet weights when training starts; `weights` is a file that holds such weights.
    """

    pretrained: bool = False
    weights: str | None = None
    # Width in pixels that a column of the feature map covers. Below 32 the last stages stride in height alone, and on
    # grids, where rows must be told apart as columns are, not at all.
    column_stride: Literal[8, 16, 32] = 16
    dropout: Annotated[float, Between(0, 0.9)] = 0.1
    drop_path: Annotated[float, Between(0, 0.9)] = 0.0
    training: TrainingConfig = field(default_factory=TrainingConfig)


class Encoder(nn.Module):
    """EfficientNet-B1's features, pooled to one cell a character: `rows` of `columns` cells."""

    def __init__(self, config: Config, rows: int, columns: int) -> None:
        super().__init__()
        try:
            self.features = timm.create_model(
                "efficientnet_b1",
                pretrained=config.pretrained,
                in_chans=1,
                num_classes=0,
                global_pool="",
                drop_path_rate=config.drop_path,
            )
        # A network that is down fails in as many ways as there are.
        except Exception as error:
            if not config.pretrained:
                raise
            raise InputError(
                f"models.effnet_b1.pretrained: timm's weights cannot be fetched ({type(error).__name__}); check the "
                "network, or name a file that holds them in models.effnet_b1.weights"
            ) from None
        if config.weights is not None:
            load_backbone(self.features, Path(config.weights))
        striding = [m for m in self.features.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        for convolution in striding[int(math.log2(config.column_stride)) :]:
            convolution.stride = (2, 1) if rows == 1 else (1, 1)
        self.pool = nn.AdaptiveAvgPool2d((rows, columns))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, L, 1280]."""
        return self.dropout(self.pool(self.features(images)).flatten(2).transpose(1, 2))


@RECOGNISERS.register("effnet_b1")
class EffnetB1(NeuralRecogniser):
    """EfficientNet-B1, one cell of its feature map a character, or a tile of a grid."""

    name = "effnet_b1"
    config_class = Config

    @classmethod
    def blank(cls, about: About, parameters: Any, where: str) -> Self:
        """See Recogniser.blank. What it started from is not needed: the weights to be loaded came of it."""
        start = {"pretrained": False, "weights": None}
        return super().blank(about, {**parameters, **start}, where)

    def build_network(self) -> PositionNetwork:
        """See NeuralRecogniser.build_network."""
        return PositionNetwork(self.spec, Encoder(self.config, self.spec.rows, self.spec.columns))
