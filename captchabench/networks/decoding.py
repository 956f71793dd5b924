"""From log-probabilities over time steps to labels (Graves et al., ICML 2006)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from captchabench.networks.ctc import BLANK

# Larger than any difference between the log-probabilities of two labels.
_PENALTY = 1e6


@dataclass(frozen=True)
class Lengths:
    """The number of symbols that a label may have, from `shortest` to `longest`, both included."""

    shortest: int
    longest: int


def greedy_decode(log_probs: Tensor, lengths: Lengths | None = None) -> Tensor:
    """The labels of the likeliest paths: class ids [B, T] int64, padded with -1.

    log_probs: [B, T, K + 1]. lengths: only paths whose label has such a length are considered. The search is exact.
    """
    path = log_probs.argmax(dim=2) if lengths is None else _best_path(log_probs, lengths)
    first = torch.ones_like(path[:, :1], dtype=torch.bool)
    kept = torch.cat([first, path[:, 1:] != path[:, :-1]], dim=1) & (path != BLANK)
    return _pack(path - 1, kept)


def _best_path(log_probs: Tensor, lengths: Lengths) -> Tensor:
    """The likeliest path whose label has one of the `lengths` (Viterbi): [B, T] classes.

    A state is the number of symbols so far and the class at the step: [longest + 1, K + 1] states.
    """
    batch, _, classes = log_probs.shape
    nothing = float("-inf")
    symbols = torch.arange(classes, device=log_probs.device)
    scores = log_probs.new_full((batch, lengths.longest + 1, classes), nothing)
    scores[:, 0, BLANK] = log_probs[:, 0, BLANK]
    if lengths.longest > 0:
        scores[:, 1, 1:] = log_probs[:, 0, 1:]
    sources = []
    for now in log_probs.unbind(1)[1:]:
        (best, second), (best_from, second_from) = (x.unbind(2) for x in scores.topk(2, dim=2))
        # A new symbol follows the likeliest state with one symbol less whose class differs from it.
        same = symbols == best_from[:, :-1, None]
        before = torch.where(same, second[:, :-1, None], best[:, :-1, None])
        before_from = torch.where(same, second_from[:, :-1, None], best_from[:, :-1, None])
        further = torch.nn.functional.pad(before, (0, 0, 1, 0), value=nothing)
        further_from = torch.nn.functional.pad(before_from, (0, 0, 1, 0))
        source = torch.where(scores >= further, symbols, further_from)
        scores = torch.maximum(scores, further)
        scores[:, :, BLANK] = best
        source[:, :, BLANK] = best_from
        scores = scores + now[:, None, :]
        sources.append(source)
    scores[:, : lengths.shortest] = nothing
    end = scores.flatten(1).argmax(dim=1)
    count, symbol = end // classes, end % classes
    path = [symbol]
    rows = torch.arange(batch, device=log_probs.device)
    for source in reversed(sources):
        previous = source[rows, count, symbol]
        count = count - ((symbol != BLANK) & (previous != symbol)).long()
        symbol = previous
        path.append(symbol)
    return torch.stack(path[::-1], dim=1)


def beam_decode(log_probs: Tensor, width: int, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
    """Prefix beam search over a batch (Graves, "Supervised Sequence Labelling", 2012, section 7.5.3).

    log_probs: [B, T, K + 1]. Returns the `width` likeliest labels [B, width, T] int64, padded with -1, best first, and
    their log-probabilities [B, width]: sums over the alignments that the beam kept, -inf if there are fewer labels than
    `width`. lengths: no label becomes longer than that, and labels that are too short come last.
    """
    batch, steps, classes = log_probs.shape
    device = log_probs.device
    nothing = float("-inf")
    labels = torch.full((batch, width, steps), -1, dtype=torch.long, device=device)
    sizes = torch.zeros(batch, width, dtype=torch.long, device=device)
    last = torch.zeros(batch, width, dtype=torch.long, device=device)
    # A hash of its symbols identifies a prefix. Its parent is the prefix without the last symbol. Empty entries of the
    # beam get numbers that match nothing.
    unused = -1 - torch.arange(width, device=device).expand(batch, width)
    prefix = torch.where(unused == -1, 0, unused)
    parent = torch.full_like(prefix, -1 - width)
    ends_blank = torch.full((batch, width), nothing, device=device)
    ends_blank[:, 0] = 0.0
    ends_symbol = torch.full((batch, width), nothing, device=device)
    symbols = torch.arange(classes, device=device)
    for t in range(steps):
        now = log_probs[:, t]
        either = torch.logaddexp(ends_blank, ends_symbol)
        repeat = now.gather(1, last)
        stay_blank = either + now[:, BLANK, None]
        stay_symbol = torch.where(sizes > 0, ends_symbol + repeat, nothing)
        same = symbols[None, None, :] == last[:, :, None]
        grown = (
            torch.where(same & (sizes > 0)[:, :, None], ends_blank[:, :, None], either[:, :, None]) + now[:, None, :]
        )
        grown[:, :, BLANK] = nothing
        if lengths is not None:
            grown = grown.masked_fill((sizes >= lengths.longest)[:, :, None], nothing)
        # If a grown prefix is already in the beam, its probability is added to that entry.
        child = prefix[:, :, None] == parent[:, None, :]
        joining = grown.gather(2, last[:, None, :].expand(-1, width, -1))
        joined = torch.where(child, joining, nothing)
        stay_symbol = torch.logaddexp(stay_symbol, joined.logsumexp(dim=1))
        in_beam = (child[:, :, :, None] & (symbols == last[:, None, :, None])).any(dim=2)
        grown = grown.masked_fill(in_beam, nothing)

        scores = torch.cat([torch.logaddexp(stay_blank, stay_symbol), grown.flatten(1)], dim=1)
        chosen = scores.topk(width, dim=1).indices
        extends = chosen >= width
        source = torch.where(extends, (chosen - width) // classes, chosen)
        symbol = torch.where(extends, (chosen - width) % classes, 0)
        source_prefix = prefix.gather(1, source)
        ends_blank = torch.where(extends, nothing, stay_blank.gather(1, source))
        ends_symbol = torch.where(extends, scores.gather(1, chosen), stay_symbol.gather(1, source))
        labels = labels.gather(1, source[:, :, None].expand(-1, -1, steps))
        position = sizes.gather(1, source)
        written = torch.where(extends, symbol - 1, labels.gather(2, position.clamp(max=steps - 1)[:, :, None])[:, :, 0])
        labels = labels.scatter(2, position.clamp(max=steps - 1)[:, :, None], written[:, :, None])
        sizes = position + extends
        last = torch.where(extends, symbol, last.gather(1, source))
        parent = torch.where(extends, source_prefix, parent.gather(1, source))
        prefix = torch.where(extends, _mix(source_prefix, symbol), source_prefix)
        empty = scores.gather(1, chosen) == nothing
        prefix = torch.where(empty, unused, prefix)
        parent = torch.where(empty, -1 - width, parent)
    total = torch.logaddexp(ends_blank, ends_symbol)
    if lengths is None:
        return labels, total
    order = (total - _PENALTY * (sizes < lengths.shortest)).argsort(dim=1, descending=True, stable=True)
    return labels.gather(1, order[:, :, None].expand(-1, -1, steps)), total.gather(1, order)


def _mix(state: Tensor, symbol: Tensor) -> Tensor:
    """The 64-bit hash of a prefix, with hash `state`, after appending a symbol. Integer overflow is intended."""
    mixed = (state ^ (symbol + 0x9E3779B9)) * 0x5851F42D4C957F2D
    return mixed ^ (mixed >> 29)


def _pack(ids: Tensor, kept: Tensor) -> Tensor:
    """Move the kept ids of each row to its front: [B, T], padded with -1."""
    position = torch.where(kept, kept.cumsum(dim=1) - 1, ids.shape[1])
    packed = torch.full((len(ids), ids.shape[1] + 1), -1, dtype=torch.long, device=ids.device)
    return packed.scatter(1, position, ids)[:, :-1]
