"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), by OpenCV."""

import cv2
import numpy as np

_CELL, _BLOCK, _DIRECTIONS = 8, 16, 9


def hog_features(crops: np.ndarray) -> np.ndarray:
    """HOG of each crop: [M, H, W] uint8, H and W multiples of 8, to [M, feature_count(H, W)] float32.

    Cells of 8 x 8 pixels, normalised in blocks of 2 x 2 that overlap by half; 9 directions.
    """
    _, height, width = crops.shape
    descriptor = cv2.HOGDescriptor((width, height), (_BLOCK, _BLOCK), (_CELL, _CELL), (_CELL, _CELL), _DIRECTIONS)
    features = np.empty((len(crops), feature_count(height, width)), np.float32)
    for row, crop in zip(features, crops, strict=True):
        row[:] = descriptor.compute(crop)
    return features


def feature_count(height: int, width: int) -> int:
    """The number of features of a crop: four histograms a block."""
    return 4 * _DIRECTIONS * (height // _CELL - 1) * (width // _CELL - 1)
