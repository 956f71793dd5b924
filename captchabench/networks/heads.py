"""From features to texts: the two heads that the deep models share, each with its loss and its decoding."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from captchabench.config import Between
from captchabench.errors import InputError
from captchabench.networks.ctc import BLANK, check_capacity, ctc_losses
from captchabench.networks.decoding import Lengths, beam_decode, greedy_decode
from captchabench.networks.network import Network
from captchabench.networks.words import likeliest_words
from captchabench.samples.shards import TextSpec

# Layers whose weights multiply features, and how many matrices a weight stacks: an LSTM's gates; query, key and value.
_STACKED = {nn.Linear: 1, nn.Conv2d: 1, nn.LSTM: 4, nn.MultiheadAttention: 3}


@dataclass(frozen=True)
class Decoding:
    """How a CTC model's output becomes a text.

    method: greedy takes the likeliest path, beam the likeliest text among the `width` it follows. length_prior: no
    text shorter or longer than the labels of the dataset. It needs no lexicon, and helps where all are equally long.
    """

    method: Literal["greedy", "beam"] = "greedy"
    width: Annotated[int, Between(1, 256)] = 8
    length_prior: bool = False

    def decode(self, log_probs: Tensor, lengths: Lengths) -> Tensor:
        """From log-probabilities [B, T, K + 1] to class ids [B, T] int64, padded with -1.

        `lengths` are those of the dataset's labels.
        """
        allowed = lengths if self.length_prior else None
        if self.method == "greedy":
            return greedy_decode(log_probs, allowed)
        ids = beam_decode(log_probs, self.width, allowed)[0][:, 0]
        if not self.length_prior:
            return ids
        # All that the beam of a sure network holds may be too short.
        too_short = (ids >= 0).sum(dim=1) < lengths.shortest
        return torch.where(too_short[:, None], greedy_decode(log_probs, allowed), ids)


class Head(Network):
    """A network that can say what else it might have read, and what it saw where.

    encoder: images to features. classify: features to classes.
    """

    encoder: nn.Module
    classify: nn.Linear

    def hidden_weights(self) -> list[tuple[nn.Parameter, int]]:
        """See Network.hidden_weights: all of the encoder's layers that have more than one input channel.

        Not the first convolution over grey pixels, depthwise ones, learned positions.
        """
        found = []
        for layer in self.encoder.modules():
            stacked = next((count for kind, count in _STACKED.items() if isinstance(layer, kind)), 0)
            if stacked:
                weights = (p for p in layer.parameters(recurse=False) if p.ndim >= 2 and p.shape[1] > 1)
                found += [(weight, stacked) for weight in weights]
        return found

    @abstractmethod
    def alternatives(self, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """At least `count` likely texts, if there are as many, best first: class ids [B, M, P] int64, -1 where there
        is no character, and their log-probabilities [B, M], -inf where there are no more. Texts may come twice."""

    @abstractmethod
    def places(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest class id at each place, -1 for none: [B, P] int64, and its log-probability [B, P]."""


class CTCNetwork(Head):
    """An encoder of images into time steps, read by CTC.

    `encoder` maps [B, 1, H, W] float32 to [B, T, F]. `blank_bias` starts the blank off likelier (above 0) or
    unlikelier than the symbols. Raises InputError if T steps cannot hold the longest label of `spec`, or if that
    describes a grid.
    """

    def __init__(self, spec: TextSpec, encoder: nn.Module, *, blank_bias: float, decoding: Decoding) -> None:
        super().__init__()
        if spec.rows > 1:
            raise InputError(
                "CTC reads one line from left to right, and a grid of tiles has three; name other models in "
                "matrix.tiles.models in params.yaml, such as those that read characters one by one"
            )
        steps, features = _feature_shape(encoder, spec)
        check_capacity(steps, spec.max_length, f"an image {spec.width} px wide")
        self.encoder = encoder
        self.classify = nn.Linear(features, len(spec.alphabet) + 1)
        nn.init.zeros_(self.classify.bias)
        with torch.no_grad():
            self.classify.bias[BLANK] = blank_bias
        self.decoding = decoding
        self.lengths = Lengths(spec.min_length, spec.max_length)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities of blank and symbols at each time step: [B, T, K + 1] float32."""
        scores: Tensor = self.classify(self.encoder(images))
        return scores.float().log_softmax(dim=2)

    def losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
        """See Network.losses."""
        return ctc_losses(log_probs, targets, lengths, guide)

    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Network.read. The probability sums over all alignments of the text, whatever the decoding."""
        ids = self.decoding.decode(log_probs, self.lengths)
        lengths = (ids >= 0).sum(dim=1)
        ids = ids[:, : int(lengths.max())]
        return ids, -ctc_losses(log_probs, ids, lengths)

    def alternatives(self, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See Head.alternatives. A beam finds the texts; their probabilities sum over all alignments, as in `read`."""
        allowed = self.lengths if self.decoding.length_prior else None
        batch, steps, _ = log_probs.shape
        found, beam = beam_decode(log_probs, max(2 * count, self.decoding.width), allowed)
        # What was read may not be in the beam.
        read, _ = self.read(log_probs)
        read = torch.nn.functional.pad(read, (0, steps - read.shape[1]), value=-1)
        texts = torch.cat([read[:, None], found], dim=1)
        sizes = (texts >= 0).sum(dim=2)
        totals = -ctc_losses(
            log_probs.repeat_interleave(texts.shape[1], dim=0), texts.flatten(0, 1), sizes.flatten()
        ).view(batch, -1)
        never = float("-inf")
        totals[:, 1:].masked_fill_(beam == never, never)
        if allowed is not None:
            totals = totals.masked_fill(sizes < allowed.shortest, never)
        order = totals.argsort(dim=1, descending=True, stable=True)
        return texts.gather(1, order[:, :, None].expand(-1, -1, steps)), totals.gather(1, order)

    def places(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Head.places: the likeliest path."""
        best, classes = log_probs.max(dim=2)
        return classes - 1, best


class PositionNetwork(Head):
    """An encoder of images into one cell a character, each classified on its own.

    `encoder` maps [B, 1, H, W] float32 to [B, L, F], where L is the longest label of `spec`. Where lengths differ,
    a further class stands for "no character here".
    """

    def __init__(self, spec: TextSpec, encoder: nn.Module) -> None:
        super().__init__()
        cells, features = _feature_shape(encoder, spec)
        if cells != spec.max_length:
            raise ValueError(f"the encoder makes {cells} cells for labels of up to {spec.max_length} symbols")
        self.encoder = encoder
        self.symbols = len(spec.alphabet)
        self.classify = nn.Linear(features, self.symbols + (spec.min_length < spec.max_length))

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities of the classes of each cell: [B, L, K] or [B, L, K + 1] float32."""
        scores: Tensor = self.classify(self.encoder(images))
        return scores.float().log_softmax(dim=2)

    def losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
        """See Network.losses: the sum of the cells' cross-entropies."""
        wanted = torch.where(targets < 0, self.symbols, targets)
        return -log_probs.gather(2, wanted[:, :, None]).squeeze(2).sum(dim=1)

    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Network.read. The probability is the product of the cells'."""
        best, ids = log_probs.max(dim=2)
        text = torch.where(ids < self.symbols, ids, -1)
        # An empty cell between characters is closed up: the rest moves left, as in a text.
        order = (text < 0).long().argsort(dim=1, stable=True)
        return text.gather(1, order), best.sum(dim=1)

    def alternatives(self, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See Head.alternatives. Where cells may be empty, different cells can spell one text."""
        wanted = count if self.classify.out_features == self.symbols else 4 * count
        ids, scores = (torch.from_numpy(x) for x in likeliest_words(log_probs.cpu().numpy(), wanted))
        return torch.where(ids < self.symbols, ids, -1), scores

    def places(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Head.places."""
        best, ids = log_probs.max(dim=2)
        return torch.where(ids < self.symbols, ids, -1), best


def _feature_shape(encoder: nn.Module, spec: TextSpec) -> tuple[int, int]:
    """Steps (or cells) and features that `encoder` makes of an image of `spec`'s size."""
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        _, steps, features = encoder(torch.zeros(1, 1, spec.height, spec.width)).shape
    encoder.train(was_training)
    return steps, features
