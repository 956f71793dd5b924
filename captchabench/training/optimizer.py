"""AdamW over one vector that holds all parameters of a network."""

import torch
from torch import Tensor, nn

# A shorter memory than Adam's usual 0.999 leaves CTC's opening plateau in fewer steps.
_BETAS = (0.9, 0.98)
_EPSILON = 1e-8


class FlatAdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) with clipping by the global norm (Pascanu et al., ICML 2013).

    The parameters of `network`, and their gradients, become views of two vectors, so that clipping, averaging over
    devices, updating and copying aside take one kernel each. Matrices decay; biases, norms and other vectors do not.
    No method waits for the device. `release` gives the network parameters of its own again.
    """

    def __init__(self, network: nn.Module, *, weight_decay: float, clip_norm: float) -> None:
        wanted = [p for p in network.parameters() if p.requires_grad]
        self._parameters = sorted(wanted, key=lambda p: p.ndim < 2)
        self._weight_decay = weight_decay
        self._clip_norm = clip_norm
        size = sum(p.numel() for p in wanted)
        device = wanted[0].device
        self.values = torch.empty(size, device=device)
        self.gradients = torch.zeros_like(self.values)
        self._first, self._second = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self._steps = torch.zeros((), device=device)
        self._decaying = sum(p.numel() for p in wanted if p.ndim >= 2)
        start = 0
        for parameter in self._parameters:
            end = start + parameter.numel()
            view = _shaped_like(self.values[start:end], parameter)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = _shaped_like(self.gradients[start:end], parameter)
            start = end

    def zero_grad(self) -> None:
        """Forget the gradients, in place."""
        self.gradients.zero_()

    def step(self, rate: Tensor) -> None:
        """Clip the gradients and update the parameters. rate: the learning rate, a scalar on their device."""
        norm = torch.linalg.vector_norm(self.gradients)
        self.gradients.mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self._steps += 1
        halves = ((slice(None, self._decaying), self._weight_decay), (slice(self._decaying, None), 0.0))
        for part, decay in halves:
            # PyTorch's own kernel, called without torch.optim, which takes a second to load its compiler.
            torch._fused_adamw_(
                [self.values[part]],
                [self.gradients[part]],
                [self._first[part]],
                [self._second[part]],
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

    def state(self) -> list[Tensor]:
        """The tensors that a step changes, the parameters among them."""
        return [self.values, self._first, self._second, self._steps]

    def release(self) -> None:
        """Give each parameter memory of its own, and no gradient."""
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None


def _shaped_like(part: Tensor, parameter: Tensor) -> Tensor:
    """A view of the vector `part` with the shape and the memory order of `parameter`."""
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        outputs, inputs, height, width = parameter.shape
        return part.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
    return part.view(parameter.shape)
