"""CRNN: convolutions, a bidirectional LSTM, CTC (Shi, Bai and Yao, TPAMI 2017, arXiv:1507.05717)."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from torch import Tensor, nn

from captchabench.config import Between, Positive
from captchabench.models import RECOGNISERS
from captchabench.models.neural import CTCRecogniser
from captchabench.networks.front import Channels, ConvFront
from captchabench.networks.heads import CTCNetwork, Decoding
from captchabench.training.settings import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Parameters of crnn."""

    channels: Channels = (64, 128, 256)
    stem_stride: Literal[1, 2] = 1
    hidden: Positive = 128
    layers: Annotated[int, Between(1, 100)] = 2
    dropout: Annotated[float, Between(0, 0.9)] = 0.1
    blank_bias: Annotated[float, Between(-100, 100)] = 0.0
    decoding: Decoding = field(default_factory=Decoding)
    training: TrainingConfig = field(default_factory=TrainingConfig)


class Encoder(nn.Module):
    """Columns of features, each read in the context of all others."""

    def __init__(self, config: Config, height: int) -> None:
        super().__init__()
        self.front = ConvFront(config.channels, stem_stride=config.stem_stride, last_dilation=1)
        self.dropout = nn.Dropout(config.dropout)
        # Separate layers: for dropout between its own layers, cuDNN uses a generator whose state cannot be restored.
        features = [config.channels[-1] * (height // 8), *[2 * config.hidden] * (config.layers - 1)]
        self.lstms = nn.ModuleList(nn.LSTM(f, config.hidden, batch_first=True, bidirectional=True) for f in features)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, W/4, 2 * hidden]."""
        columns: Tensor = self.front(images)
        for lstm in self.lstms:
            columns = self.dropout(lstm(columns)[0])
        return columns


@RECOGNISERS.register
class Crnn(CTCRecogniser):
    """Convolutions, a bidirectional LSTM, CTC."""

    config_class = Config

    def build_network(self) -> CTCNetwork:
        """See NeuralRecogniser.build_network."""
        config: Config = self.config
        return CTCNetwork(
            self.spec,
            Encoder(config, self.spec.height),
            blank_bias=config.blank_bias,
            decoding=config.decoding,
        )
