"""Crops of characters from text lines, all of one size."""

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 32, 24  # pixels; tiles of a grid are square


def cut_crops(strength: NDArray[np.uint8], centres: NDArray[np.int64], window: float) -> NDArray[np.uint8]:
    """A crop of `window` columns around each centre, scaled to 32 x 24: [N, L, 32, 24] uint8.

    strength: ink, [N, H, W] uint8. centres: columns, [N, L] int64; a negative one gives an empty crop. There is no ink
    outside the image.
    """
    n, height, _ = strength.shape
    crops = np.zeros((*centres.shape, HEIGHT, WIDTH), np.uint8)
    across, down = window / WIDTH, height / HEIGHT
    transform = np.array([[across, 0, 0], [0, down, (down - 1) / 2]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for i in range(n):
        for j, centre in enumerate(centres[i].tolist()):
            if centre >= 0:
                transform[0, 2] = centre - across * (WIDTH - 1) / 2
                cv2.warpAffine(strength[i], transform, (WIDTH, HEIGHT), crops[i, j], flags)
    return crops
