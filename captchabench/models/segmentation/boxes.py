"""Where the places lie that a model looks at."""

from itertools import pairwise, product

import numpy as np

from captchabench.samples.shards import TextSpec

# left, top, right, bottom, in pixels of the normalised image.
Box = tuple[float, float, float, float]


def equal_boxes(spec: TextSpec, count: int) -> list[Box]:
    """`count` places of equal size, row by row, over the whole image."""
    down = pairwise(np.linspace(0, spec.height, spec.rows + 1).tolist())
    across = list(pairwise(np.linspace(0, spec.width, count // spec.rows + 1).tolist()))
    return [(left, top, right, bottom) for (top, bottom), (left, right) in product(down, across)]
