"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), by OpenCV."""

import cv2
import numpy as np

from captchabench.models.parts.crops import HEIGHT, WIDTH

# Cells of 8 x 8 pixels, normalised in blocks of 2 x 2 that overlap by half; 9 directions.
_DESCRIPTOR = cv2.HOGDescriptor((WIDTH, HEIGHT), (16, 16), (8, 8), (8, 8), 9)
FEATURES = _DESCRIPTOR.getDescriptorSize()


def hog_features(crops: np.ndarray) -> np.ndarray:
    """HOG of each crop: [M, 32, 24] uint8 to [M, 216] float32."""
    features = np.empty((len(crops), FEATURES), np.float32)
    for row, crop in zip(features, crops, strict=True):
        row[:] = _DESCRIPTOR.compute(crop)
    return features
