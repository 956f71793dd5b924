"""What a trained model says of an image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captchabench.networks.readings import Alternative, Steps


@dataclass(frozen=True)
class Prediction:
    """What was read of one image.

    confidence: the probability of the whole text, 0 to 1. alternatives: the likeliest texts, best first; empty unless
    asked for. A CTC model that decodes greedily may find there a likelier text than the one it read.
    """

    text: str
    confidence: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """How one image was read.

    grey: [h, w] uint8, the image at its own size. picture: [H, W] uint8, the same as the model was given it.
    """

    prediction: Prediction
    grey: NDArray[np.uint8]
    picture: NDArray[np.uint8]
    steps: Steps
