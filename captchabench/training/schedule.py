"""Values that change from step to step, as tables on the device."""

import math

import torch
from torch import Tensor

from captchabench.training.settings import TrainingConfig

_WARM_UP = 0.15
_FIRST, _LAST = 1 / 25, 1e-5
_PLATEAU_FACTOR = 0.1


def learning_rates(config: TrainingConfig) -> Tensor:
    """The learning rate of each step: [steps] float32.

    `one_cycle`: a cosine up over the first 15 % of the steps, then a cosine down to nearly 0 (Smith and Topin,
    arXiv:1708.07120). `plateau`: constant, until `reduce` is called.
    """
    if config.schedule == "plateau":
        return torch.full((config.steps,), config.learning_rate)
    step = torch.arange(config.steps, dtype=torch.float64)
    peak = _WARM_UP * config.steps
    up = _cosine(_FIRST, 1.0, step / peak)
    down = _cosine(1.0, _LAST, (step - peak) / (config.steps - peak))
    return (config.learning_rate * torch.where(step < peak, up, down)).float()


def reduce(rates: Tensor, step: int) -> None:
    """Divide the learning rates of all steps from `step` on by ten, in place."""
    rates[step:] *= _PLATEAU_FACTOR


def guides(config: TrainingConfig) -> Tensor:
    """The weight of CTC's guide at each step (see `ctc_losses`): [steps] float32, decreasing linearly to 0."""
    fading = max(config.guide_share * config.steps, 1.0)
    remaining = 1 - torch.arange(config.steps, dtype=torch.float64) / fading
    return (config.guide * remaining.clamp(min=0)).float()


def _cosine(start: float, end: float, share: Tensor) -> Tensor:
    return end + (start - end) / 2 * (1 + torch.cos(math.pi * share))
