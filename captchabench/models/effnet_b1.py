"""EfficientNet-B1 (Tan and Le, ICML 2019, arXiv:1905.11946), with one classifier for each character or tile."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from captchabench.config import Between
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.neural import NeuralRecogniser
from captchabench.networks.heads import Head, PositionNetwork
from captchabench.networks.network import bright_ink
from captchabench.networks.pretrained import load_backbone, start_from_lite1
from captchabench.samples.shards import TextSpec
from captchabench.training.settings import TrainingConfig

LITE1 = "lite1"
_CHANNELS = 1280


@dataclass(frozen=True)
class Config:
    """Parameters of effnet_b1.

    weights: the initial ones. `lite1` for EfficientNet-Lite1's ImageNet weights (see `networks.pretrained`), a file of
    weights with timm's names, or null for random ones. pretrained: download timm's own weights instead. lite: compute
    as Lite1 does: ReLU6 instead of SiLU, TensorFlow's padding, 1e-3 added to variances. Only then do Lite1's features
    mean what they meant for ImageNet. Models that were saved without `lite` compute as timm's EfficientNet-B1.
    """

    pretrained: bool = False
    weights: str | None = LITE1
    lite: bool = False
    # Pixels of width that a column of the feature map covers. Below 32, the last stages stride only vertically in
    # lines, and not at all in tiles, which are square.
    column_stride: Literal[8, 16, 32] = 8
    dropout: Annotated[float, Between(0, 0.9)] = 0.0
    drop_path: Annotated[float, Between(0, 0.9)] = 0.0
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        """Raises InputError if the weights were trained with other activations."""
        if self.lite and (self.pretrained or self.weights not in (None, LITE1)):
            raise InputError("models.effnet_b1.lite: fits the weights lite1 only; set lite to false for others")


class LineEncoder(nn.Module):
    """EfficientNet-B1's features of a line. Those of a character are the mean of the columns, weighted by attention.

    The attention depends on the position and the content of a column; both parts are learned. At first only the
    position counts: the characters of the longest label are assumed to be spaced evenly.
    """

    def __init__(self, spec: TextSpec, config: Config) -> None:
        super().__init__()
        self.features = _features(config, (2, 1))
        columns = math.ceil(spec.width / config.column_stride)
        centres = (torch.arange(spec.max_length)[:, None] + 0.5) / spec.max_length
        distance = ((torch.arange(columns) + 0.5) / columns - centres) * spec.max_length
        self.places = nn.Parameter(-2 * distance.square())
        self.queries = nn.Linear(_CHANNELS, spec.max_length, bias=False)
        nn.init.zeros_(self.queries.weight)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, L, 1280]."""
        columns = self.features(bright_ink(images)).mean(dim=2).transpose(1, 2)
        weights = (self.queries(columns).transpose(1, 2) + self.places).softmax(dim=2)
        features: Tensor = self.dropout(weights @ columns)
        return features


class TileEncoder(nn.Module):
    """EfficientNet-B1's features of each tile of a grid. Each tile is processed as a separate image."""

    def __init__(self, spec: TextSpec, config: Config) -> None:
        super().__init__()
        self.features = _features(config, (1, 1))
        self.rows, self.columns = spec.rows, spec.columns
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, L, 1280], row by row."""
        batch, _, height, width = images.shape
        down, across = height // self.rows, width // self.columns
        cells = images[:, 0, : down * self.rows, : across * self.columns]
        cells = cells.reshape(batch, self.rows, down, self.columns, across).transpose(2, 3)
        tiles = cells.reshape(-1, 1, down, across).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.features(tiles).mean(dim=(2, 3))
        dropped: Tensor = self.dropout(features.view(batch, self.rows * self.columns, -1))
        return dropped


@RECOGNISERS.register
class EffnetB1(NeuralRecogniser):
    """EfficientNet-B1 with one classifier for each character or tile."""

    config_class = Config
    libraries = (*NeuralRecogniser.libraries, "timm")

    def build_network(self) -> PositionNetwork:
        """See NeuralRecogniser.build_network."""
        if self.spec.rows == 1:
            return PositionNetwork(self.spec, LineEncoder(self.spec, self.config))
        network = PositionNetwork(self.spec, TileEncoder(self.spec, self.config))
        network.pieces = (self.spec.rows, self.spec.columns)
        return network

    def warm_start(self, network: Head) -> None:
        """See NeuralRecogniser.warm_start."""
        features: nn.Module = network.get_submodule("encoder.features")
        if self.config.pretrained:
            features.load_state_dict(_download().state_dict())
        elif self.config.weights == LITE1:
            start_from_lite1(features)
        elif self.config.weights is not None:
            load_backbone(features, Path(self.config.weights))

    def pretraining(self) -> str:
        """See NeuralRecogniser.pretraining."""
        if self.config.pretrained:
            return "ImageNet (timm)"
        if self.config.weights == LITE1:
            return "ImageNet (EfficientNet-Lite1)"
        return "" if self.config.weights is None else Path(self.config.weights).name


def _features(config: Config, late_stride: tuple[int, int]) -> nn.Module:
    """EfficientNet-B1 without its classifier, [B, 1, H, W] to [B, 1280, H', W']. late_stride: of the last stages."""
    lite: dict[str, Any] = {"act_layer": "relu6", "pad_type": "same", "bn_eps": 1e-3} if config.lite else {}
    network: nn.Module = timm.create_model(
        "efficientnet_b1", in_chans=1, num_classes=0, global_pool="", drop_path_rate=config.drop_path, **lite
    )
    striding = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    for convolution in striding[int(math.log2(config.column_stride)) :]:
        convolution.stride = late_stride
    trim_depthwise(network)
    return network


def _download() -> nn.Module:
    try:
        network: nn.Module = timm.create_model(
            "efficientnet_b1", pretrained=True, in_chans=1, num_classes=0, global_pool=""
        )
    # A failed download raises exceptions of many types.
    except Exception as error:
        raise InputError(
            f"models.effnet_b1.pretrained: timm's weights cannot be fetched ({type(error).__name__}); check the "
            "network, or name a file with these weights in models.effnet_b1.weights"
        ) from None
    return network


class TrimmedConv2d(nn.Conv2d):
    """A depthwise convolution without those rows and columns of its kernel that cover only padding.

    On a feature map one row high, one row remains of a 5 x 5 kernel. The result is the same. Kernel sizes are odd, and
    the padding is half the kernel size.
    """

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H', W']."""
        reach = [min(size // 2, side - 1) for size, side in zip(self.kernel_size, images.shape[2:], strict=True)]
        rows, columns = (
            slice(size // 2 - r, size // 2 + r + 1) for size, r in zip(self.kernel_size, reach, strict=True)
        )
        return conv2d(images, self.weight[:, :, rows, columns], None, self.stride, reach, groups=self.groups)


def trim_depthwise(network: nn.Module) -> None:
    """Replace the depthwise convolutions in `network` by trimmed ones with the same weights.

    Those that pad as TensorFlow does are left: they are few.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and child.groups == child.in_channels > 1:
                trimmed = TrimmedConv2d(child.in_channels, child.out_channels, 1, groups=child.groups, bias=False)
                trimmed.kernel_size, trimmed.stride, trimmed.padding = child.kernel_size, child.stride, child.padding
                trimmed.weight = child.weight
                setattr(parent, name, trimmed)
