"""The loss of connectionist temporal classification (Graves et al., ICML 2006), vectorised.

Class 0 of the network's output is the blank; class id i of the alphabet is output i + 1. Nothing here waits for the
device or branches on the values of a tensor, so a CUDA graph can contain it. The gradient is computed directly from the
forward and backward variables, so no autograd graph of T steps is kept.
"""

from typing import Any

import torch
from torch import Tensor

from captchabench.errors import InputError

BLANK = 0
_IMPOSSIBLE = float("-inf")


def steps_needed(length: int) -> int:
    """Time steps that any label of `length` symbols needs at most: one per symbol, and a blank between repeats."""
    return max(2 * length - 1, 1)


def check_capacity(time_steps: int, max_length: int, source: str) -> None:
    """Check that `time_steps` are enough for the longest label. Raises InputError with the arithmetic if they are not.

    source: what the time steps come from, for the message.
    """
    needed = steps_needed(max_length)
    if time_steps < needed:
        raise InputError(
            f"{source} gives {time_steps} time steps, but a label of {max_length} symbols can need "
            f"2 x {max_length} - 1 = {needed} (a blank between equal neighbours); widen the images or stride less"
        )


def ctc_losses(log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each label, in nats: [B], of log_probs' dtype.

    log_probs: [B, T, K + 1]. targets: [B, L] class ids 0 to K-1, padded with -1. lengths: [B]. A label that does not
    fit into T steps has an infinite loss and a gradient of 0.

    guide: a scalar; None for none. It adds to the cost of each alignment: `guide` times the squared distance from the
    diagonal, the alignment whose symbols are spaced evenly over the width. Both axes run from 0 to 1. Without a guide
    all alignments are equally likely at first, and the network learns to emit only blanks. That plateau can last for
    most of a training. A guide that decreases to 0 in the first part of the training breaks the tie.
    """
    if guide is None and not log_probs.requires_grad and log_probs.device.type == "cpu":
        # Without gradients on a CPU, PyTorch's own loss is faster: one call instead of some hundred.
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
    losses: Tensor = _TrellisSum.apply(emitted, states, ends)  # type: ignore[no-untyped-call]  # torch has no types here
    return losses


def _trellis_states(targets: Tensor) -> Tensor:
    """The class of each trellis state, with blanks between and around the symbols: [B, 2L + 1]."""
    blanks = torch.zeros_like(targets)
    symbols = targets.clamp(min=-1) + 1
    return torch.nn.functional.pad(torch.stack([blanks, symbols], dim=2).flatten(1), (0, 1))


def _distance_from_diagonal(emitted: Tensor, ends: Tensor) -> Tensor:
    """The squared distance of each step and state from the diagonal, as shares of the axes: [B, T, S]."""
    _, steps, size = emitted.shape
    step = (torch.arange(steps, device=emitted.device, dtype=emitted.dtype) + 0.5) / steps
    state = torch.arange(size, device=emitted.device, dtype=emitted.dtype) + 0.5
    share = state[None] / (ends[:, None] + 1)
    return (step[None, :, None] - share[:, None, :]).square()


def _forward_variables(emitted: Tensor, states: Tensor, ends: Tensor) -> Tensor:
    """Log of the total probability of all paths that are in a state at a step: [B, T, S].

    emitted: [B, T, S] log-probabilities. states: [B, S] classes. ends: [B], the last state of each label.
    """
    state = torch.arange(states.shape[1], device=states.device)
    emitted = emitted.masked_fill((state > ends[:, None])[:, None, :], _IMPOSSIBLE)
    # A symbol may follow another without a blank between them, unless the two are equal.
    two_before = torch.nn.functional.pad(states, (2, 0), value=BLANK)[:, :-2]
    skips = (states != BLANK) & (states != two_before)
    blocked = torch.zeros(skips.shape, device=emitted.device, dtype=emitted.dtype).masked_fill(~skips, _IMPOSSIBLE)
    alpha = emitted[:, 0].masked_fill(state >= 2, _IMPOSSIBLE)
    alphas = [alpha]
    for step in emitted.unbind(1)[1:]:
        before = torch.nn.functional.pad(alpha, (2, 0), value=_IMPOSSIBLE)
        moved = torch.logaddexp(alpha, before[:, 1:-1])
        alpha = torch.logaddexp(moved, before[:, :-2] + blocked) + step
        alphas.append(alpha)
    return torch.stack(alphas, dim=1)


def _total(forward: Tensor, ends: Tensor) -> Tensor:
    """Log of the total probability of all complete paths: [B]. They end in the last symbol or in the blank after it."""
    state = torch.arange(forward.shape[2], device=forward.device)
    outside = (state < ends[:, None] - 1) | (state > ends[:, None])
    return forward[:, -1].masked_fill(outside, _IMPOSSIBLE).logsumexp(dim=1)


class _TrellisSum(torch.autograd.Function):
    """-log of the total probability of all trellis paths. Its gradient is minus the posterior of each state."""

    @staticmethod
    def forward(ctx: Any, emitted: Tensor, states: Tensor, ends: Tensor) -> Tensor:
        """See `_forward_variables`."""
        batch, steps, size = emitted.shape
        state = torch.arange(size, device=states.device)
        # The backward variables are the forward variables of the reversed label. That trellis has the same shape, so
        # both are computed in one batch.
        mirror = (ends[:, None] - state).clamp(min=0)
        over_time = mirror[:, None, :].expand(-1, steps, -1)
        both = torch.cat([emitted, emitted.flip(1).gather(2, over_time)])
        trellis = _forward_variables(both, torch.cat([states, states.gather(1, mirror)]), ends.repeat(2))
        forward = trellis[:batch]
        backward = trellis[batch:].flip(1).gather(2, over_time)
        total = _total(forward, ends)
        posterior = (forward + backward - emitted - total[:, None, None]).exp()
        counts = (state <= ends[:, None]) & (total > _IMPOSSIBLE)[:, None]
        ctx.save_for_backward(posterior.masked_fill(~counts[:, None, :], 0.0))
        return -total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Gradient with respect to `emitted`."""
        (posterior,) = ctx.saved_tensors
        return -gradient[:, None, None] * posterior, None, None
