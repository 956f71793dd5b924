"""The least cost of training on one image: floating-point operations and bytes of device memory.

The bytes are a lower bound for kernels that fuse activations, pooling and casts into layers, but do not fuse layers.
Each output of a convolution, norm, linear or recurrent layer is written once and read once in the forward pass, and
read once in the backward pass. Gradients of activations, attention scores, the loss and augmentation are not counted.
Weights are read in both passes and their gradients are written; then AdamW reads weight, gradient and two moments and
writes three of them: ten passes of float32 per step, divided by the batch size. The image is read once. Operations are
those of matrix products and convolutions in both passes, as PyTorch's FlopCounterMode counts them.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from captchabench.networks.network import Network

_COUNTED = (nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.Linear, nn.LSTM, nn.GRU)
_PASSES_OVER_ACTIVATIONS = 3
_PASSES_OVER_WEIGHTS = 10
_BATCH = 8


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes per image in one training step."""

    flops: float
    bytes: float


def cost_of_training(network: Network, height: int, width: int, *, batch_size: int, dtype: torch.dtype) -> Cost:
    """The cost of an image of [height, width] in batches of `batch_size` with activations of `dtype`.

    Counted on meta tensors, so that nothing is computed and every layer shows its matrix products.
    """
    shadow = copy.deepcopy(network).to("meta").train()
    outputs = 0

    def count(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, object]) -> None:
        nonlocal outputs
        outputs += (output if isinstance(output, Tensor) else output[0]).numel()

    for module in shadow.modules():
        if isinstance(module, _COUNTED):
            module.register_forward_hook(count)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward_flops})
    with counter:
        shadow(torch.empty(_BATCH, 1, height, width, device="meta")).sum().backward()
    weights = sum(p.numel() for p in shadow.parameters())
    activations = outputs / _BATCH * dtype.itemsize * _PASSES_OVER_ACTIVATIONS
    shared = weights * torch.float32.itemsize * _PASSES_OVER_WEIGHTS / batch_size
    return Cost(counter.get_total_flops() / _BATCH, height * width + activations + shared)


def _backward_flops(
    gradient: Sequence[int], _inputs: Sequence[int], weight: Sequence[int], *rest: object, out_shape: object
) -> int:
    """Operations of a convolution's backward pass, from its shapes. PyTorch's formula ignores groups."""
    output_mask = rest[-1]
    assert isinstance(output_mask, Sequence)
    once = 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weight)
    return once * sum(bool(part) for part in output_mask[:2])
