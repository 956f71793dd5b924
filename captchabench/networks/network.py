"""What the engine trains."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A network that reads short texts.

    `forward` maps images [B, 1, H, W] float32, as `standardize` makes them, to log-probabilities [B, P, K] float32
    at P places; what a place is, the network knows: a time step or a character. Targets are [B, L] int64 class ids
    padded with -1, lengths [B] int64. An image is `pieces` of equal width side by side, each of which is distorted on
    its own in training.
    """

    pieces: int = 1

    @abstractmethod
    def losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
        """The loss of each sample: [B] float32. guide: see `ctc_losses`; without meaning where nothing is aligned."""

    @abstractmethod
    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """The texts: class ids [B, M] int64, padded with -1 (M as wide as needed), and [B] float32
        log-probabilities of the whole word."""

    def hidden_weights(self) -> list[tuple[nn.Parameter, int]]:
        """The weights of hidden layers, which Muon may take, each with the number of matrices stacked in it.

        None unless a network says so.
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
    """Images [B, 1, H, W], negated where their smaller part, the ink, is dark: by the sign of the third moment.

    One look to learn where a generator draws dark on bright and bright on dark.
    """
    skew = images.pow(3).mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(skew < 0, -images, images)


def same_text(ids: Tensor, targets: Tensor) -> Tensor:
    """Which rows of `ids` [B, M] spell the same as `targets` [B, L], both padded with -1: [B] bool."""
    width = max(ids.shape[1], targets.shape[1])
    padded = [nn.functional.pad(t, (0, width - t.shape[1]), value=-1) for t in (ids, targets)]
    return torch.eq(*padded).all(dim=1)
