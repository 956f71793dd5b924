"""The centres of characters in text lines, found with windows that slide over the lines.

A linear scorer on gradient features scores for every column how well a character is centred there. Dynamic programming
finds the best sequence of centres: recognition-based segmentation (Casey and Lecolinet, IEEE TPAMI 18, 1996).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captchabench.errors import InputError

CELL = 4  # pixels, height and width
# Gradients left, right, up and down, and ink.
_CHANNELS = 5
# Left edges of a window's columns of cells, relative to its centre.
_OFFSETS = tuple(range(-12, 12, CELL))
_PAD = 12
# Weight of the sum over all classes: a window scores for its best class, and a little for being any character.
_ANY = 0.4
_RIDGE = 3e-3
_GAP_WEIGHT, _GAP_SPREAD = 0.05, 0.3
_NEAREST, _FARTHEST = 0.4, 1.9
_START_WEIGHT, _START_SPREAD, _START_FLOOR = 0.06, 2.0, 1e-4


def weight_rows(line_height: int) -> int:
    """Rows of the weights that score lines of `line_height` pixels: see `fit_scorer`."""
    return len(_OFFSETS) * _CHANNELS * (line_height // CELL) + 1


def cell_features(strength: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gradients (left, right, up, down) and ink, averaged over cells of 4 x 4 pixels at every column.

    strength: [N, H, W] uint8, H a multiple of 4. Returns [N, W + 20, F] float32: entry x has the cells whose left edge
    is at column x - 12.
    """
    n, height, width = strength.shape
    ink = strength.astype(np.float32) / 255
    across, down = np.zeros_like(ink), np.zeros_like(ink)
    across[:, :, 1:-1] = ink[:, :, 2:] - ink[:, :, :-2]
    down[:, 1:-1] = ink[:, 2:] - ink[:, :-2]
    channels = [np.maximum(c, 0) for c in (across, -across, down, -down)] + [ink]
    rows = np.concatenate([c.reshape(n, height // CELL, CELL, width).sum(axis=2) for c in channels], axis=1)
    padded = np.pad(rows, ((0, 0), (0, 0), (_PAD + 1, _PAD - 1)))
    sums = padded.cumsum(axis=2)
    boxes = (sums[:, :, CELL:] - sums[:, :, :-CELL]) / CELL**2
    return np.ascontiguousarray(np.sqrt(np.maximum(boxes, 0)).transpose(0, 2, 1))


def windows_at(
    features: NDArray[np.float32], images: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The features of windows centred on `columns` [M] of the images with indices `images` [M]: [M, 6 * F]."""
    return np.concatenate([features[images, columns + offset + _PAD] for offset in _OFFSETS], axis=1)


def column_scores(features: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well a character of each class is centred at each column: [N, W, K] float32. weights: [6 * F + 1, K]."""
    n, padded, size = features.shape
    width = padded - 2 * _PAD + CELL
    scores = np.broadcast_to(weights[-1], (n, width, weights.shape[1])).copy()
    for part, offset in enumerate(_OFFSETS):
        scores += features[:, offset + _PAD : offset + _PAD + width] @ weights[part * size : (part + 1) * size]
    return scores


def fit_scorer(
    features: NDArray[np.float32], centres: NDArray[np.int64], classes: NDArray[np.int64], count: int, pitch: float
) -> NDArray[np.float32]:
    """Weights of a ridge regression to 1 at the centres of a class and 0 elsewhere: [6 * F + 1, count] float32.

    centres: [N, L] columns, -1 beyond a text's end. classes: [N, L]. pitch: the usual distance between two centres;
    columns nearer to a centre than a quarter of it are not used as "elsewhere". Raises InputError if the lines contain
    no ink, or if all are equal.
    """
    width = features.shape[1] - 2 * _PAD + CELL
    image, index = np.nonzero(centres >= 0)
    right = windows_at(features, image, centres[image, index])
    distance = np.abs(np.arange(width)[None, :, None] - np.where(centres < 0, -width, centres)[:, None, :]).min(axis=2)
    # Every third column, offset by one from image to image: neighbouring columns are nearly the same.
    spread = (np.arange(width)[None] + np.arange(len(features))[:, None]) % 3 == 0
    wrong = windows_at(features, *np.nonzero((distance > 0.25 * pitch) & spread))
    size = right.shape[1] + 1
    gram = np.zeros((size, size))
    for rows, weight in ((right, 1.0), (wrong, len(right) / max(len(wrong), 1))):
        for start in range(0, len(rows), 8192):
            chunk = np.pad(rows[start : start + 8192], ((0, 0), (0, 1)), constant_values=1.0)
            gram += weight * (chunk.T @ chunk)
    moments = np.zeros((size, count))
    for symbol in range(count):
        examples = right[classes[image, index] == symbol]
        moments[:-1, symbol], moments[-1, symbol] = examples.sum(axis=0), len(examples)
    ridge = np.full(size, _RIDGE * np.trace(gram[:-1, :-1]) / (size - 1))
    ridge[-1] = 1e-6
    try:
        weights = np.linalg.solve(gram + np.diag(ridge), moments).astype(np.float32)
    except np.linalg.LinAlgError:
        raise InputError(
            "no characters can be found in the training images: they are blank or all equal; check them"
        ) from None
    # A class without examples is never the best one.
    weights[-1, moments[-1] == 0] = -1.0
    return weights


def any_character(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well any character is centred at each column: scores [N, W, K] to [N, W]."""
    best: NDArray[np.float32] = scores.max(axis=2) + _ANY * scores.sum(axis=2)
    return best


def this_character(scores: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """How well a character of the class in `classes` [N] is centred at each column: scores [N, W, K] to [N, W]."""
    of_class: NDArray[np.float32] = np.take_along_axis(scores, classes[:, None, None], axis=2)[:, :, 0]
    sums: NDArray[np.float32] = scores.sum(axis=2)
    return of_class + _ANY * sums


def start_scores(centres: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """A score for each column as the centre of a line's first character: [W] float32, 0 for the most frequent one.

    centres: [N, L]. The score is a smoothed log-histogram. Without it, a wide character that looks like two narrow
    ones, such as m, would displace the first character of its line.
    """
    counts = np.bincount(centres[:, 0], minlength=width).astype(np.float64)
    columns = np.arange(width)
    near = np.exp(-0.5 * ((columns[:, None] - columns) / _START_SPREAD) ** 2)
    smooth = near @ counts
    usual: NDArray[np.float64] = smooth / smooth.max()
    return (_START_WEIGHT * np.log(usual + _START_FLOOR)).astype(np.float32)


def best_centres(
    scores: Sequence[NDArray[np.float32]], pitch: float, starts: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The sequence of centres with the highest sum of scores minus a penalty for distances other than `pitch`.

    scores: [N, W] for each of L characters. starts: [W] from `start_scores`, added to those of the first. Returns
    columns [N, L] int64, ascending, and the sums [N] float32.
    """
    n, width = scores[0].shape
    low = max(1, min(round(_NEAREST * pitch), (width - 1) // len(scores)))
    high = max(low, min(round(_FARTHEST * pitch), width - 1))
    total = scores[0].copy() if starts is None else scores[0] + starts
    steps = []
    for score in scores[1:]:
        best = np.full((n, width), -np.inf, np.float32)
        step = np.zeros((n, width), np.int16)
        for gap in range(low, high + 1):
            sum_ = total[:, : width - gap] - np.float32(_GAP_WEIGHT * ((gap - pitch) / (_GAP_SPREAD * pitch)) ** 2)
            better = sum_ > best[:, gap:]
            np.copyto(best[:, gap:], sum_, where=better)
            np.copyto(step[:, gap:], np.int16(gap), where=better)
        total = best + score
        steps.append(step)
    column = total.argmax(axis=1)
    path = [column]
    for step in reversed(steps):
        column = column - step[np.arange(n), column]
        path.append(column)
    return np.stack(path[::-1], axis=1), total.max(axis=1)
