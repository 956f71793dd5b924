"""From grey images to ink: how much each pixel differs from the ground, whatever the polarity."""

import cv2
import numpy as np
from numpy.typing import NDArray

# Specks of at most this share of the image are dropped: two pixels of 32 x 100.
_SPECK = 1 / 1600
_GROUND_IMAGES = 500


def fit_ground(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The background that images of one look have in common. pixels: [N, H, W]. Returns [H, W].

    At each pixel it is the level that 15 % of the images exceed where texts are darker than their ground, and fall
    below where they are lighter: even where most texts cover the pixel, the ground shows through in some image.
    """
    some = pixels[:: max(1, len(pixels) // _GROUND_IMAGES)]
    darker = (some.mean(axis=(1, 2)) - np.median(some, axis=(1, 2))).mean() <= 0
    return np.percentile(some, 85 if darker else 15, axis=0).round().astype(np.uint8)


def ink_strength(pixels: NDArray[np.uint8], ground: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How strongly each pixel is inked: 0 is ground, 255 is text. [N, H, W] in and out.

    The ground of an image is `ground` (see `fit_ground`) or its own median level, whichever it differs less from:
    text may be lighter or darker than either. Otsu's threshold (IEEE Trans. SMC 9, 1979) on the difference says
    where ink is; the mean difference there becomes 255, weaker ones keep their share; specks are dropped.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.int16)
    own = np.abs(flat - np.median(flat, axis=1).astype(np.int16)[:, None])
    common = np.abs(flat - ground.reshape(-1).astype(np.int16))
    difference = np.where((common.mean(axis=1) <= own.mean(axis=1))[:, None], common, own)
    inked = difference > otsu_thresholds(difference)[:, None]
    level = (difference * inked).sum(axis=1) / np.maximum(inked.sum(axis=1), 1)
    strength = np.minimum(difference * (255 / np.maximum(level, 1))[:, None], 255).astype(np.uint8)
    return _without_specks(strength.reshape(pixels.shape), inked.reshape(pixels.shape))


def otsu_thresholds(levels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Otsu's threshold of each row: [N, M] integers of 0 to 255 in, [N] out. Levels above it are one class."""
    n = len(levels)
    counts = np.bincount((levels + 256 * np.arange(n)[:, None]).ravel(), minlength=256 * n).reshape(n, 256)
    below = counts.cumsum(axis=1).astype(np.float64)
    weight = (counts * np.arange(256)).cumsum(axis=1).astype(np.float64)
    total, sum_ = below[:, -1:], weight[:, -1:]
    parted = below * (total - below)
    between = np.divide((sum_ * below / total - weight) ** 2, parted, out=np.zeros_like(below), where=parted > 0)
    thresholds: NDArray[np.int64] = between.argmax(axis=1)
    return thresholds


def level_text(strength: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shift each column up or down so that the text around it has its centre of mass at half height.

    [N, H, W] in and out. For texts that climb, wave or stand at any height.
    """
    n, height, width = strength.shape
    reach = (0.65 * height, 1)
    rows = np.arange(height, dtype=np.float32)
    mass = cv2.blur(strength.sum(axis=1, dtype=np.float32), (int(reach[0]) | 1, 1), borderType=cv2.BORDER_CONSTANT)
    moment = np.tensordot(strength, rows, axes=(1, 0)).astype(np.float32)
    moment = cv2.blur(moment, (int(reach[0]) | 1, 1), borderType=cv2.BORDER_CONSTANT)
    middle = (height - 1) / 2
    centre = np.where(mass > height / 2, moment / np.maximum(mass, 1e-3), middle)
    source = np.arange(height)[None, :, None] + np.rint(centre - middle).astype(np.int64)[:, None, :]
    inside = (source >= 0) & (source < height)
    moved = np.take_along_axis(strength, source.clip(0, height - 1), axis=1)
    return np.where(inside, moved, 0).astype(np.uint8).reshape(n, height, width)


def _without_specks(strength: NDArray[np.uint8], inked: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`strength` with the connected components of `inked` [N, H, W] that are only a speck set to 0."""
    n, height, width = inked.shape
    # One tall image with an empty row between two images: one call labels them all.
    tall = np.zeros((n, height + 1, width), np.uint8)
    tall[:, :height] = inked
    _, labels, stats, _ = cv2.connectedComponentsWithStats(tall.reshape(-1, width), connectivity=8)
    specks = stats[:, cv2.CC_STAT_AREA] <= _SPECK * height * width
    specks[0] = False
    return np.where(specks[labels].reshape(tall.shape)[:, :height], 0, strength).astype(np.uint8)
