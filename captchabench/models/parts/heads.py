"""From features to texts: the two heads that the deep models share, each with its loss and its decoding."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from captchabench.data.shards import TextSpec
from captchabench.training.ctc import BLANK, check_capacity, ctc_losses
from captchabench.training.decoding import beam_decode, greedy_decode
from captchabench.training.network import Network

Decoding = Literal["greedy", "beam"]


class CTCNetwork(Network):
    """An encoder of images into time steps, read by CTC.

    `encoder` maps [B, 1, H, W] float32 to [B, T, F]. `blank_bias` starts the blank off likelier (above 0) or
    unlikelier than the symbols. Raises InputError if T steps cannot hold the longest label of `spec`.
    """

    def __init__(
        self, spec: TextSpec, encoder: nn.Module, *, blank_bias: float, decoding: Decoding, beam_width: int
    ) -> None:
        super().__init__()
        steps, features = _feature_shape(encoder, spec)
        check_capacity(steps, spec.max_length, f"an image {spec.width} px wide")
        self.encoder = encoder
        self.classify = nn.Linear(features, len(spec.alphabet) + 1)
        nn.init.zeros_(self.classify.bias)
        with torch.no_grad():
            self.classify.bias[BLANK] = blank_bias
        self._decode: Callable[[Tensor], Tensor] = greedy_decode
        if decoding == "beam":
            self._decode = lambda log_probs: beam_decode(log_probs, beam_width)[0][:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities of blank and symbols at each time step: [B, T, K + 1] float32."""
        return self.classify(self.encoder(images)).float().log_softmax(dim=2)

    def losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
        """See Network.losses."""
        return ctc_losses(log_probs, targets, lengths, guide)

    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """See Network.read. The probability sums over all alignments of the text, whatever the decoding."""
        ids = self._decode(log_probs)
        return ids, -ctc_losses(log_probs, ids, (ids >= 0).sum(dim=1))


class PositionNetwork(Network):
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
        return self.classify(self.encoder(images)).float().log_softmax(dim=2)

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


def _feature_shape(encoder: nn.Module, spec: TextSpec) -> tuple[int, int]:
    """Steps (or cells) and features that `encoder` makes of an image of `spec`'s size."""
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        _, steps, features = encoder(torch.zeros(1, 1, spec.height, spec.width)).shape
    encoder.train(was_training)
    return steps, features
