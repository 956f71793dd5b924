"""The results of a trained model for one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captchabench.networks.readings import Alternative, Steps


@dataclass(frozen=True)
class Prediction:
    """The text read from one image.

    confidence: the probability of the whole text, 0 to 1. alternatives: the most probable texts, best first; empty
    unless requested. For a CTC model with greedy decoding, an alternative may be more probable than `text`.
    """

    text: str
    confidence: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """How one image was read.

    grey: [h, w] uint8, the image at its original size. picture: [H, W] uint8, the input of the model.
    """

    prediction: Prediction
    grey: NDArray[np.uint8]
    picture: NDArray[np.uint8]
    steps: Steps
