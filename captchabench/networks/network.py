"""The interface between networks and the training engine, and what all networks need of images and labels."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A network that reads short texts.

    `forward` maps images [B, 1, H, W] float32, as `standardize` returns them, to log-probabilities [B, P, K] float32
    at P positions: time steps or characters, depending on the network. Targets are [B, L] int64 class ids padded with
    -1, lengths [B] int64. pieces: the rows and columns of equal parts that an image is made of. Training distorts
    each part separately.
    """

    pieces: tuple[int, int] = (1, 1)

    @abstractmethod
    def losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
        """The loss of each sample: [B] float32. guide: see `ctc_losses`; ignored by networks without alignment."""

    @abstractmethod
    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """The texts as class ids [B, M] int64, padded with -1, and the log-probabilities of the texts, [B] float32.

        M is at least the length of the longest text.
        """

    def hidden_weights(self) -> list[tuple[nn.Parameter, int]]:
        """The weights of hidden layers, which Muon may train, each with the number of matrices stacked in it.

        An empty list by default: then AdamW trains all weights.
        """
        return []


def standardize(images: Tensor) -> Tensor:
    """[B, H, W] uint8 to [B, 1, H, W] float32, each image to mean 0 and standard deviation 1.

    A constant image becomes all zeros.
    """
    pixels = images.float()
    mean = pixels.mean(dim=(1, 2), keepdim=True)
    spread = pixels.std(dim=(1, 2), keepdim=True, unbiased=False)
    return ((pixels - mean) / (spread + 1.0)).unsqueeze(1)


def bright_ink(images: Tensor) -> Tensor:
    """Images [B, 1, H, W] with bright ink: negated where the ink, which covers the smaller part, is dark.

    The sign of the third moment decides. So a network learns one polarity if a generator draws both.
    """
    skew = images.pow(3).mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(skew < 0, -images, images)


def same_text(ids: Tensor, targets: Tensor) -> Tensor:
    """Whether each row of `ids` [B, M] spells the same text as that of `targets` [B, L]: [B] bool. -1 is padding."""
    width = max(ids.shape[1], targets.shape[1])
    padded = [nn.functional.pad(t, (0, width - t.shape[1]), value=-1) for t in (ids, targets)]
    return torch.eq(*padded).all(dim=1)
