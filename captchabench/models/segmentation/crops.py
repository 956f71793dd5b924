"""Characters cut out of text lines, all of one size."""

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 32, 24  # pixels; tiles of a grid are square


def cut_crops(strength: NDArray[np.uint8], centres: NDArray[np.int64], window: float) -> NDArray[np.uint8]:
    """What stands in a window of `window` columns around each centre, scaled to 32 x 24.

    strength: [N, H, W]. centres: [N, L] columns; a negative one gives an empty crop. Outside the image is
    ground. Returns [N, L, 32, 24].
    """
    n, height, _ = strength.shape
    crops = np.zeros((*centres.shape, HEIGHT, WIDTH), np.uint8)
    across, down = window / WIDTH, height / HEIGHT
    place = np.array([[across, 0, 0], [0, down, (down - 1) / 2]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for i in range(n):
        for j, centre in enumerate(centres[i].tolist()):
            if centre >= 0:
                place[0, 2] = centre - across * (WIDTH - 1) / 2
                cv2.warpAffine(strength[i], place, (WIDTH, HEIGHT), crops[i, j], flags)
    return crops
