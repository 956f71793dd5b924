"""Connectionist temporal classification (Graves et al., ICML 2006): the loss, as one vectorised recursion.

Class 0 of the network's output is the blank; class id i of the alphabet is output i + 1. Nothing here waits for the
device or depends on the values of a tensor, so that a CUDA graph can hold it; and gradients come from the forward and
backward variables at once, so that no graph of T steps is kept.
"""

from typing import Any

import torch
from torch import Tensor

from captchabench.errors import InputError

BLANK = 0
_NEVER = float("-inf")


def steps_needed(length: int) -> int:
    """Time steps that every label of `length` symbols fits in: one a symbol and a blank between repeats."""
    return max(2 * length - 1, 1)


def check_capacity(time_steps: int, max_length: int, how: str) -> None:
    """Refuse a network whose `time_steps` cannot hold the longest label. `how` says where the steps come from.

    Raises InputError with the arithmetic.
    """
    needed = steps_needed(max_length)
    if time_steps < needed:
        raise InputError(
            f"{how} gives {time_steps} time steps, but a label of {max_length} symbols can need "
            f"2 x {max_length} - 1 = {needed} (a blank between equal neighbours); widen the images or stride less"
        )


def ctc_losses(log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each label, in nats: [B], of log_probs' dtype.

    log_probs: [B, T, K + 1]. targets: [B, L] class ids 0 to K-1, padded with -1. lengths: [B]. A label that does not
    fit into T steps has an infinite loss, and no gradient.

    guide: a scalar; None for none. Each alignment pays `guide` times its squared distance from the diagonal, on which
    a label's symbols follow each other evenly over the width, both axes running from 0 to 1. At first all alignments
    are equally likely and the network learns to emit nothing but blanks, a plateau that may last most of a training;
    a guide that fades over its first part breaks the tie.
    """
    if guide is None and not log_probs.requires_grad and log_probs.device.type == "cpu":
        # Nothing to fuse and nothing to wait for: PyTorch's own is one call instead of some hundred.
        steps = torch.full_like(lengths, log_probs.shape[1])
        return torch.nn.functional.ctc_loss(
            log_probs.transpose(0, 1), targets + 1, steps, lengths, blank=BLANK, reduction="none"
        )
    states = _trellis_states(targets)
    ends = 2 * lengths
    emitted = log_probs.gather(2, states[:, None, :].expand(-1, log_probs.shape[1], -1))
    if guide is not None:
        emitted = emitted - guide * _distance_from_diagonal(emitted, ends)
    if not emitted.requires_grad:
        return -_total(_forward_variables(emitted, states, ends), ends)
    losses: Tensor = _TrellisSum.apply(emitted, states, ends)  # type: ignore[no-untyped-call]  # torch names no types
    return losses


def _trellis_states(targets: Tensor) -> Tensor:
    """The classes of the trellis, blanks between and around the symbols: [B, 2L + 1]."""
    blanks = torch.zeros_like(targets)
    symbols = targets.clamp(min=-1) + 1
    return torch.nn.functional.pad(torch.stack([blanks, symbols], dim=2).flatten(1), (0, 1))


def _distance_from_diagonal(emitted: Tensor, ends: Tensor) -> Tensor:
    """The squared distance of step and state, each as a share of its axis: [B, T, S]."""
    _, steps, size = emitted.shape
    step = (torch.arange(steps, device=emitted.device, dtype=emitted.dtype) + 0.5) / steps
    state = torch.arange(size, device=emitted.device, dtype=emitted.dtype) + 0.5
    share = state[None] / (ends[:, None] + 1)
    return (step[None, :, None] - share[:, None, :]).square()


def _forward_variables(emitted: Tensor, states: Tensor, ends: Tensor) -> Tensor:
    """log of the sum over all paths that are in a state at a step: [B, T, S].

    emitted: [B, T, S] log-probabilities. states: [B, S] classes. ends: [B], the last state of each label.
    """
    place = torch.arange(states.shape[1], device=states.device)
    emitted = emitted.masked_fill((place > ends[:, None])[:, None, :], _NEVER)
    # A symbol may follow another without a blank between them unless they are the same.
    two_before = torch.nn.functional.pad(states, (2, 0), value=BLANK)[:, :-2]
    skips = (states != BLANK) & (states != two_before)
    barred = torch.zeros(skips.shape, device=emitted.device, dtype=emitted.dtype).masked_fill(~skips, _NEVER)
    alpha = emitted[:, 0].masked_fill(place >= 2, _NEVER)
    alphas = [alpha]
    for step in emitted.unbind(1)[1:]:
        before = torch.nn.functional.pad(alpha, (2, 0), value=_NEVER)
        moved = torch.logaddexp(alpha, before[:, 1:-1])
        alpha = torch.logaddexp(moved, before[:, :-2] + barred) + step
        alphas.append(alpha)
    return torch.stack(alphas, dim=1)


def _total(forward: Tensor, ends: Tensor) -> Tensor:
    """log of the sum over all whole paths: [B]. A label ends in its last symbol or in the blank after it."""
    place = torch.arange(forward.shape[2], device=forward.device)
    outside = (place < ends[:, None] - 1) | (place > ends[:, None])
    return forward[:, -1].masked_fill(outside, _NEVER).logsumexp(dim=1)


class _TrellisSum(torch.autograd.Function):
    """-log of the sum over all paths through the trellis, and its gradient, the posterior of each state."""

    @staticmethod
    def forward(ctx: Any, emitted: Tensor, states: Tensor, ends: Tensor) -> Tensor:
        """See `_forward_variables`."""
        batch, steps, size = emitted.shape
        place = torch.arange(size, device=states.device)
        # The label read backwards is a trellis of the same shape, whose forward variables are the backward ones of
        # this: both run side by side.
        mirror = (ends[:, None] - place).clamp(min=0)
        over_time = mirror[:, None, :].expand(-1, steps, -1)
        both = torch.cat([emitted, emitted.flip(1).gather(2, over_time)])
        trellis = _forward_variables(both, torch.cat([states, states.gather(1, mirror)]), ends.repeat(2))
        forward = trellis[:batch]
        backward = trellis[batch:].flip(1).gather(2, over_time)
        total = _total(forward, ends)
        posterior = (forward + backward - emitted - total[:, None, None]).exp()
        counts = (place <= ends[:, None]) & (total > _NEVER)[:, None]
        ctx.save_for_backward(posterior.masked_fill(~counts[:, None, :], 0.0))
        return -total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Gradient with respect to `emitted`."""
        (posterior,) = ctx.saved_tensors
        return -gradient[:, None, None] * posterior, None, None
