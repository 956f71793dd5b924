"""What a recogniser returns for images: texts, confidences, alternatives, and the steps that led to them."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reading:
    """N texts and their confidences [N]: the probabilities of the whole texts."""

    texts: list[str]
    confidences: NDArray[np.float32]


@dataclass(frozen=True)
class Alternative:
    """A possible text of an image, and its probability."""

    text: str
    probability: float


@dataclass(frozen=True)
class Step:
    """One position of an image, and how it was read.

    left, top, right, bottom: in pixels of the normalised image, right and bottom exclusive; a window may extend beyond
    the image. symbol: empty if there is none (CTC's blank, an empty cell). crop: the model's input for this position,
    uint8, if it is not the image itself (characters: [32, 24], 255 is ink; tiles: [32, 32]).
    """

    left: float
    top: float
    right: float
    bottom: float
    symbol: str
    probability: float
    crop: NDArray[np.uint8] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Steps:
    """How a recogniser read one image, from left to right: CTC's time steps, segmented characters, or cells.

    kind `none`: the recogniser does not use the image.
    """

    kind: Literal["time steps", "characters", "cells", "none"]
    steps: tuple[Step, ...]
