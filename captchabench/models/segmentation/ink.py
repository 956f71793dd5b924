"""From grey images to ink: how much each pixel differs from the background, dark or light."""

import cv2
import numpy as np
from numpy.typing import NDArray

# Specks of at most this share of the image are removed: two pixels of 32 x 100.
_SPECK = 1 / 1600
_GROUND_IMAGES = 500


def fit_ground(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The common background of similar images: [H, W] uint8. pixels: [N, H, W] uint8.

    At each pixel it is a percentile over the images: the 85th if texts are darker than their background, the 15th if
    they are lighter. So even where texts cover a pixel in most images, the background of the others counts.
    """
    some = pixels[:: max(1, len(pixels) // _GROUND_IMAGES)]
    darker = (some.mean(axis=(1, 2)) - np.median(some, axis=(1, 2))).mean() <= 0
    return np.percentile(some, 85 if darker else 15, axis=0).round().astype(np.uint8)


def ink_strength(pixels: NDArray[np.uint8], ground: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ink of each pixel, from 0 for background to 255 for text: [N, H, W] uint8. pixels: [N, H, W] uint8.

    The background of an image is `ground` (see `fit_ground`) or the median of the image, whichever differs less from
    the image. Ink is where the difference exceeds Otsu's threshold (IEEE Trans. SMC 9, 1979). Differences are scaled so
    that the mean of the ink becomes 255. Specks are removed.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.int16)
    from_median = np.abs(flat - np.median(flat, axis=1).astype(np.int16)[:, None])
    from_ground = np.abs(flat - ground.reshape(-1).astype(np.int16))
    difference = np.where((from_ground.mean(axis=1) <= from_median.mean(axis=1))[:, None], from_ground, from_median)
    inked = difference > otsu_thresholds(difference)[:, None]
    level = (difference * inked).sum(axis=1) / np.maximum(inked.sum(axis=1), 1)
    strength = np.minimum(difference * (255 / np.maximum(level, 1))[:, None], 255).astype(np.uint8)
    return _without_specks(strength.reshape(pixels.shape), inked.reshape(pixels.shape))


def otsu_thresholds(levels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Otsu's threshold of each row: [N] int64. levels: [N, M], 0 to 255. Levels above it form one class."""
    n = len(levels)
    counts = np.bincount((levels + 256 * np.arange(n)[:, None]).ravel(), minlength=256 * n).reshape(n, 256)
    below = counts.cumsum(axis=1).astype(np.float64)
    weight = (counts * np.arange(256)).cumsum(axis=1).astype(np.float64)
    total, sum_ = below[:, -1:], weight[:, -1:]
    pairs = below * (total - below)
    between = np.divide((sum_ * below / total - weight) ** 2, pairs, out=np.zeros_like(below), where=pairs > 0)
    thresholds: NDArray[np.int64] = between.argmax(axis=1)
    return thresholds


def level_text(strength: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shift each column vertically, so that the text around it has its centre of mass at half the height.

    strength: [N, H, W] uint8, as is the result. For texts that climb, wave or start at varying heights.
    """
    n, height, width = strength.shape
    rows = np.arange(height, dtype=np.float32)
    around = (int(0.65 * height) | 1, 1)
    mass = cv2.blur(strength.sum(axis=1, dtype=np.float32), around, borderType=cv2.BORDER_CONSTANT)
    moment = np.tensordot(strength, rows, axes=(1, 0)).astype(np.float32)
    moment = cv2.blur(moment, around, borderType=cv2.BORDER_CONSTANT)
    middle = (height - 1) / 2
    centre = np.where(mass > height / 2, moment / np.maximum(mass, 1e-3), middle)
    source = np.arange(height)[None, :, None] + np.rint(centre - middle).astype(np.int64)[:, None, :]
    inside = (source >= 0) & (source < height)
    moved = np.take_along_axis(strength, source.clip(0, height - 1), axis=1)
    return np.where(inside, moved, 0).astype(np.uint8).reshape(n, height, width)


def _without_specks(strength: NDArray[np.uint8], inked: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`strength` without the connected components of `inked` [N, H, W] that are specks."""
    n, height, width = inked.shape
    # All images in one tall image, separated by empty rows, so that one call labels them all.
    tall = np.zeros((n, height + 1, width), np.uint8)
    tall[:, :height] = inked
    _, labels, stats, _ = cv2.connectedComponentsWithStats(tall.reshape(-1, width), connectivity=8)
    specks = stats[:, cv2.CC_STAT_AREA] <= _SPECK * height * width
    specks[0] = False
    return np.where(specks[labels].reshape(tall.shape)[:, :height], 0, strength).astype(np.uint8)
