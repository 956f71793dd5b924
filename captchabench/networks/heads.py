"""The two heads of the deep models, from features to texts: CTC and one classifier per position."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from captchabench.config import Between
from captchabench.errors import InputError
from captchabench.networks.alternatives import likeliest_texts
from captchabench.networks.ctc import BLANK, check_capacity, ctc_losses
from captchabench.networks.decoding import Lengths, beam_decode, greedy_decode
from captchabench.networks.network import Network
from captchabench.samples.shards import TextSpec

# Layers that Muon may train, and the number of matrices stacked in a weight: an LSTM's gates; query, key and value.
_STACKED = {nn.Linear: 1, nn.Conv2d: 1, nn.LSTM: 4, nn.MultiheadAttention: 3}


@dataclass(frozen=True)
class Decoding:
    """How a CTC model's output is decoded.

    method: greedy returns the text of the likeliest path; beam the likeliest of the `width` texts that it follows.
    length_prior: only texts whose length occurs in the dataset. This helps if all labels have one length.
    shift_average: the mean of the log-probabilities of the image and of four copies shifted by one pixel is decoded.
    Reading takes five times as long.
    """

    method: Literal["greedy", "beam"] = "greedy"
    width: Annotated[int, Between(1, 256)] = 8
    length_prior: bool = False
    shift_average: bool = False

    def decode(self, log_probs: Tensor, lengths: Lengths) -> Tensor:
        """From log-probabilities [B, T, K + 1] to class ids [B, T] int64, padded with -1.

        lengths: those of the dataset's labels.
        """
        allowed = lengths if self.length_prior else None
        if self.method == "greedy":
            return greedy_decode(log_probs, allowed)
        ids = beam_decode(log_probs, self.width, allowed)[0][:, 0]
        if not self.length_prior:
            return ids
        # If the network is confident, all texts in the beam can be too short.
        too_short = (ids >= 0).sum(dim=1) < lengths.shortest
        return torch.where(too_short[:, None], greedy_decode(log_probs, allowed), ids)


class Head(Network):
    """A network that also returns alternative texts, and what it read at each position.

    encoder: from images to features. classify: from features to classes.
    """

    encoder: nn.Module
    classify: nn.Linear

    def hidden_weights(self) -> list[tuple[nn.Parameter, int]]:
        """See Network.hidden_weights: those of the encoder's layers with more than one input channel.

        That leaves out the first convolution, which sees one grey channel, and depthwise ones.
        """
        hidden: list[tuple[nn.Parameter, int]] = []
        for layer in self.encoder.modules():
            stacked = next((count for kind, count in _STACKED.items() if isinstance(layer, kind)), 0)
            if stacked:
                weights = (p for p in layer.parameters(recurse=False) if p.ndim >= 2 and p.shape[1] > 1)
                hidden += [(weight, stacked) for weight in weights]
        return hidden

    @abstractmethod
    def alternatives(self, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The likeliest texts, best first: class ids [B, M, P] int64 and log-probabilities [B, M].

        Ids are -1 where there is no character. M is at least `count`, if there are so many texts. Unused rows have the
        log-probability -inf. A text may occur twice.
        """

    @abstractmethod
    def best_classes(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest class id at each position, -1 for none: [B, P] int64, and its log-probability [B, P]."""


class CTCNetwork(Head):
    """An encoder from images to time steps, read by CTC.

    encoder: [B, 1, H, W] float32 to [B, T, F]. blank_bias: the initial bias of the blank; above 0 it starts likelier
    than the symbols. Raises InputError if T steps are too few for the longest label of `spec`, or if `spec` describes a
    grid.
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
        """See Network.read. The probability is the sum over all alignments of the text, with either decoding."""
        ids = self.decoding.decode(log_probs, self.lengths)
        lengths = (ids >= 0).sum(dim=1)
        ids = ids[:, : int(lengths.max())]
        return ids, -ctc_losses(log_probs, ids, lengths)

    def alternatives(self, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See Head.alternatives. The texts come from a beam, their probabilities from all alignments, as in `read`."""
        allowed = self.lengths if self.decoding.length_prior else None
        batch, steps, _ = log_probs.shape
        ids, scores = beam_decode(log_probs, max(2 * count, self.decoding.width), allowed)
        # The text that `read` returns may be missing in the beam.
        read, _ = self.read(log_probs)
        read = torch.nn.functional.pad(read, (0, steps - read.shape[1]), value=-1)
        texts = torch.cat([read[:, None], ids], dim=1)
        sizes = (texts >= 0).sum(dim=2)
        totals = -ctc_losses(
            log_probs.repeat_interleave(texts.shape[1], dim=0), texts.flatten(0, 1), sizes.flatten()
        ).view(batch, -1)
        unused = float("-inf")
        totals[:, 1:].masked_fill_(scores == unused, unused)
        if allowed is not None:
            totals = totals.masked_fill(sizes < allowed.shortest, unused)
        order = totals.argsort(dim=1, descending=True, stable=True)
        return texts.gather(1, order[:, :, None].expand(-1, -1, steps)), totals.gather(1, order)

    def best_classes(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Head.best_classes: the likeliest path."""
        best, classes = log_probs.max(dim=2)
        return classes - 1, best


class PositionNetwork(Head):
    """An encoder from images to one cell per character; each cell is classified by itself.

    encoder: [B, 1, H, W] float32 to [B, L, F], where L is the length of the longest label of `spec`. If labels have
    several lengths, an additional class means "no character here". Raises ValueError if the encoder makes other than L
    cells.
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
        classes = torch.where(targets < 0, self.symbols, targets)
        return -log_probs.gather(2, classes[:, :, None]).squeeze(2).sum(dim=1)

    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Network.read. The probability is the product of those of the cells."""
        best, ids = log_probs.max(dim=2)
        text = torch.where(ids < self.symbols, ids, -1)
        # An empty cell between characters is removed: the rest moves left.
        order = (text < 0).long().argsort(dim=1, stable=True)
        return text.gather(1, order), best.sum(dim=1)

    def alternatives(self, log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """See Head.alternatives. If cells may be empty, different classes of the cells can spell the same text."""
        rows = count if self.classify.out_features == self.symbols else 4 * count
        ids, scores = (torch.from_numpy(x) for x in likeliest_texts(log_probs.cpu().numpy(), rows))
        return torch.where(ids < self.symbols, ids, -1), scores

    def best_classes(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Head.best_classes."""
        best, ids = log_probs.max(dim=2)
        return torch.where(ids < self.symbols, ids, -1), best


def _feature_shape(encoder: nn.Module, spec: TextSpec) -> tuple[int, int]:
    """The number of steps (or cells) and of features that `encoder` makes of an image of `spec`'s size."""
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        _, steps, features = encoder(torch.zeros(1, 1, spec.height, spec.width)).shape
    encoder.train(was_training)
    return steps, features
