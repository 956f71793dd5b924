"""Muon and AdamW over one vector that holds all parameters of a network."""

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from captchabench.networks.network import Network
from captchabench.training.settings import TrainingConfig

# A shorter memory than Adam's usual 0.999 leaves CTC's opening plateau in fewer steps.
_BETAS = (0.9, 0.98)
_EPSILON = 1e-8
_MOMENTUM = 0.95
# Coefficients of the polynomial that moves all singular values towards 1, and the number of its iterations (Jordan et
# al., 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_QUINTIC_STEPS = 5


@dataclass(frozen=True)
class _Group:
    """Hidden weights of one shape, adjacent in the vector. shape: [count, outputs, inputs]."""

    part: slice
    shape: tuple[int, int, int]


class FlatOptimizer:
    """Muon for the weights of hidden layers, AdamW for all others, with clipping by the global norm.

    Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) moves a weight matrix along its momentum, with
    all singular values of the momentum set to about 1. A convolution counts as a matrix of outputs by inputs times
    kernel. Matrices that share one parameter, such as the gates of an LSTM, are treated separately. The network names
    its hidden weights; with `config.muon` 0 AdamW trains them as well. AdamW: Loshchilov and Hutter, ICLR 2019.
    Clipping: Pascanu et al., ICML 2013. Matrices decay; biases, norms and other vectors do not.

    The parameters of `network` and their gradients become views of two vectors. So clipping, averaging over devices,
    updating and copying take one kernel each. No method waits for the device. `release` separates the parameters again.
    """

    def __init__(self, network: Network, config: TrainingConfig) -> None:
        trained = [p for p in network.parameters() if p.requires_grad]
        named = network.hidden_weights() if config.muon else []
        hidden = {id(p): (p.shape[0] // stacked, p[0].numel()) for p, stacked in named if p.requires_grad}

        def order(parameter: nn.Parameter) -> tuple[bool, bool, tuple[int, int]]:
            # First Muon's, those of one shape together; then AdamW's that decay; then those that do not.
            return id(parameter) not in hidden, parameter.ndim < 2, hidden.get(id(parameter), (0, 0))

        self._parameters = sorted(trained, key=order)
        self._weight_decay = config.weight_decay
        self._clip_norm = config.clip_norm
        self._muon_ratio = config.muon / config.learning_rate
        self._groups: list[_Group] = []
        start = 0
        of_muon = (p for p in self._parameters if id(p) in hidden)
        for (outputs, inputs), same_shape in groupby(of_muon, lambda p: hidden[id(p)]):
            count = sum(p.numel() for p in same_shape) // (outputs * inputs)
            end = start + count * outputs * inputs
            self._groups.append(_Group(slice(start, end), (count, outputs, inputs)))
            start = end
        self._hidden = start
        self._decaying = sum(p.numel() for p in trained if p.ndim >= 2)
        size = sum(p.numel() for p in trained)
        device = trained[0].device
        self.values = torch.empty(size, device=device)
        self.gradients = torch.zeros_like(self.values)
        self._momentum = torch.zeros(self._hidden, device=device)
        self._first, self._second = (torch.zeros(size - self._hidden, device=device) for _ in range(2))
        self._steps = torch.zeros((), device=device)
        start = 0
        for parameter in self._parameters:
            end = start + parameter.numel()
            view = _shaped_like(self.values[start:end], parameter)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = _shaped_like(self.gradients[start:end], parameter)
            start = end

    def zero_grad(self) -> None:
        """Set the gradients to 0, in place."""
        self.gradients.zero_()

    def step(self, rate: Tensor) -> None:
        """Clip the gradients and update the parameters. rate: AdamW's learning rate, a scalar on their device."""
        norm = torch.linalg.vector_norm(self.gradients)
        self.gradients.mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
        if self._groups:
            self._step_hidden(rate * self._muon_ratio)
        self._steps += 1
        start = self._hidden
        for part, decay in ((slice(start, self._decaying), self._weight_decay), (slice(self._decaying, None), 0.0)):
            of_adam = slice(part.start - start, None if part.stop is None else part.stop - start)
            # PyTorch's kernel, called directly: importing torch.optim loads its compiler, which takes a second.
            torch._fused_adamw_(
                [self.values[part]],
                [self.gradients[part]],
                [self._first[of_adam]],
                [self._second[of_adam]],
                [],
                [self._steps],
                lr=rate,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                weight_decay=decay,
                eps=_EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _step_hidden(self, rate: Tensor) -> None:
        """Update the hidden weights by Muon with Nesterov momentum. rate: its learning rate, a scalar."""
        gradients, values = self.gradients[: self._hidden], self.values[: self._hidden]
        self._momentum.lerp_(gradients, 1 - _MOMENTUM)
        ahead = gradients.lerp(self._momentum, _MOMENTUM)
        values.mul_(1 - rate * self._weight_decay)
        for group in self._groups:
            _, outputs, inputs = group.shape
            update = orthogonalised(ahead[group.part].view(group.shape))
            values[group.part].view(group.shape).sub_(update * (rate * max(1.0, outputs / inputs) ** 0.5))

    def state(self) -> list[Tensor]:
        """The tensors that a step changes, including the parameters."""
        return [self.values, self._momentum, self._first, self._second, self._steps]

    def release(self) -> None:
        """Give each parameter its own memory, and remove the gradients."""
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices with the singular vectors of `matrices` [N, M, K] and singular values of about 1 (0.7 to 1.2).

    Newton-Schulz iteration, which takes matrix products only. On a GPU it runs in bfloat16, which is precise enough.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    if x.is_cuda:
        x = x.bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_QUINTIC_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    shaped: Tensor = x if wide else x.mT
    return shaped.to(matrices.dtype)


def _shaped_like(part: Tensor, parameter: Tensor) -> Tensor:
    """A view of the vector `part` with the shape and the memory order of `parameter`."""
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        outputs, inputs, height, width = parameter.shape
        return part.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
    return part.view(parameter.shape)
