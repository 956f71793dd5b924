"""Numbers that change from step to step, as tables: a step looks them up on the device."""

import math

import torch
from torch import Tensor

from captchabench.training.settings import TrainingConfig

_WARM_UP = 0.15
_FIRST, _LAST = 1 / 25, 1e-5
_PLATEAU_FACTOR = 0.1


def learning_rates(config: TrainingConfig) -> Tensor:
    """The learning rate of each step: [steps] float32.

    `one_cycle`: up along a cosine over the first 15 % of the steps, down to nearly nothing over the others (Smith and
    Topin, arXiv:1708.07120). `plateau`: constant, until `reduce` is called.
    """
    if config.schedule == "plateau":
        return torch.full((config.steps,), config.learning_rate)
    step = torch.arange(config.steps, dtype=torch.float64)
    peak = _WARM_UP * config.steps
    up = _cosine(_FIRST, 1.0, step / peak)
    down = _cosine(1.0, _LAST, (step - peak) / (config.steps - peak))
    return (config.learning_rate * torch.where(step < peak, up, down)).float()


def reduce(rates: Tensor, step: int) -> None:
    """Cut the learning rates of all steps from `step` on to a tenth, in place."""
    rates[step:] *= _PLATEAU_FACTOR


def guides(config: TrainingConfig) -> Tensor:
    """The pull of CTC's alignments to the diagonal at each step: [steps] float32, falling to 0 in a straight line."""
    fading = max(config.guide_share * config.steps, 1.0)
    left = 1 - torch.arange(config.steps, dtype=torch.float64) / fading
    return (config.guide * left.clamp(min=0)).float()


def _cosine(start: float, end: float, share: Tensor) -> Tensor:
    return end + (start - end) / 2 * (1 + torch.cos(math.pi * share))
