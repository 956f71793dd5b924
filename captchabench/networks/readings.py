"""What a recogniser says of images: texts, confidences, alternatives, and the steps that led to them."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reading:
    """What a recogniser read: N texts and [N] confidences, the probability of the whole word."""

    texts: list[str]
    confidences: NDArray[np.float32]


@dataclass(frozen=True)
class Alternative:
    """A text that an image may show, with its probability as a whole word."""

    text: str
    probability: float


@dataclass(frozen=True)
class Step:
    """One place that a recogniser looked at, and what it took it for.

    left, top, right, bottom: in pixels of the normalised image, right and bottom exclusive; a window may reach
    beyond the image. symbol: empty where it saw none (CTC's blank, an empty cell). crop: what it was given of the
    place, uint8, where that is not the image itself (characters: [32, 24], 255 is ink; tiles: [32, 32]).
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
    """How a recogniser read one image, from left to right: by CTC's time steps, characters cut out, or cells.

    kind `none`: it does not look at the image.
    """

    kind: Literal["time steps", "characters", "cells", "none"]
    steps: tuple[Step, ...]
