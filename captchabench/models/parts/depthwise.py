"""Depthwise convolutions on small maps, without work on their padding."""

from torch import Tensor, nn
from torch.nn.functional import conv2d


class TrimmedConv2d(nn.Conv2d):
    """A depthwise convolution that leaves out the rows and columns of its kernel that meet nothing but padding.

    Of a kernel of 5 x 5 on a map one row high that is all but one row. The result is the same. Kernels are odd and
    padded by half their size.
    """

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H', W']."""
        reach = [min(size // 2, side - 1) for size, side in zip(self.kernel_size, images.shape[2:], strict=True)]
        rows, columns = (
            slice(size // 2 - r, size // 2 + r + 1) for size, r in zip(self.kernel_size, reach, strict=True)
        )
        return conv2d(images, self.weight[:, :, rows, columns], None, self.stride, reach, groups=self.groups)


def trim_depthwise(network: nn.Module) -> None:
    """Replace the depthwise convolutions in `network` by trimmed ones that share their weights."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.groups == child.in_channels > 1:
                trimmed = TrimmedConv2d(child.in_channels, child.out_channels, 1, groups=child.groups, bias=False)
                trimmed.kernel_size, trimmed.stride, trimmed.padding = child.kernel_size, child.stride, child.padding
                trimmed.weight = child.weight
                setattr(parent, name, trimmed)
