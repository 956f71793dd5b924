"""What training on one image must cost, whatever runs it: floating-point operations, and bytes of device memory.

The bytes are a lower bound for kernels that fuse activations, pooling and casts into layers, but not layers into each
other. Every output of a convolution, norm, linear or recurrent layer is written once and read once going forward, and
read once more going backward; gradients of activations, attention scores, the loss and augmentation count nothing.
Weights are read forward and backward and their gradients written; then AdamW reads weight, gradient and two moments
and writes three of them: ten passes of float32 a step, shared out over the batch. The image itself is read once.
The operations are those of matrix products and convolutions, forward and backward, as PyTorch's own counter has them.
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
    """Of one image in one training step."""

    flops: float
    bytes: float


def cost_of_training(network: Network, height: int, width: int, *, batch_size: int, dtype: torch.dtype) -> Cost:
    """What an image of [height, width] costs in batches of `batch_size`, activations held in `dtype`.

    Counted on tensors without data, so that it takes no time and every layer shows its matrix products.
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
    """Of a convolution's backward pass, by shapes; PyTorch's own formula overlooks groups."""
    wanted = rest[-1]
    assert isinstance(wanted, Sequence)
    once = 2 * gradient[0] * math.prod(gradient[2:]) * math.prod(weight)
    return once * sum(bool(part) for part in wanted[:2])
