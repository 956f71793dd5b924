"""The first convolutions of the CTC models, and the block that they consist of."""

from torch import Tensor, nn

from captchabench.config import Positive
from captchabench.networks.network import bright_ink

Channels = tuple[Positive, Positive, Positive]


def conv_block(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU. Only the stride changes the height and width."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ConvFront(nn.Module):
    """Three convolution blocks, [B, 1, H, W] to [B, W/4, C * H/8]: each column of features is a time step.

    Images are made bright on dark first (`bright_ink`). stem_stride: with 2 the first block strides instead of pooling,
    which takes a quarter of the operations. last_dilation: of the third block.
    """

    def __init__(
        self,
        channels: Channels,
        *,
        stem_stride: int,
        last_dilation: int,
    ) -> None:
        super().__init__()
        first, second, third = channels
        if stem_stride == 2:
            stem: list[nn.Module] = [conv_block(1, first, kernel=5, stride=2)]
        else:
            stem = [conv_block(1, first), nn.MaxPool2d(2)]
        self.blocks = nn.Sequential(
            *stem,
            conv_block(first, second),
            nn.MaxPool2d(2),
            conv_block(second, third, dilation=last_dilation),
            nn.MaxPool2d((2, 1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, H, W] to [B, W/4, C * H/8]."""
        features: Tensor = self.blocks(bright_ink(images))
        return features.permute(0, 3, 1, 2).flatten(2)
