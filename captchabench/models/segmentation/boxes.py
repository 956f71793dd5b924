"""Boxes of equal size over an image. Apart from the segmenters, which most networks do not need."""

from itertools import pairwise, product

import numpy as np

from captchabench.samples.shards import TextSpec

# left, top, right, bottom, in pixels of the normalised image.
Box = tuple[float, float, float, float]


def equal_boxes(spec: TextSpec, count: int) -> list[Box]:
    """`count` boxes of equal size that cover the image, row by row."""
    down = pairwise(np.linspace(0, spec.height, spec.rows + 1).tolist())
    across = list(pairwise(np.linspace(0, spec.width, count // spec.rows + 1).tolist()))
    return [(left, top, right, bottom) for (top, bottom), (left, right) in product(down, across)]
