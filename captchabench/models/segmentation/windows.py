"""Windows that slide over a text line: where do characters have their centres?

A linear scorer on gradient features says of every column how well a character is centred there, and dynamic
programming finds the best row of centres: recognition-based segmentation (Casey and Lecolinet, IEEE TPAMI 18, 1996).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELL = 4  # pixels, both ways
# Gradients left, right, up and down, and ink.
_CHANNELS = 5
# Left edges of a window's columns of cells, relative to its centre.
_OFFSETS = tuple(range(-12, 12, CELL))
_PAD = 12
# A character counts for what it most looks like, and a little for looking like any at all.
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

    strength: [N, H, W], H a multiple of 4. Returns [N, W + 20, F]: entry x holds the cells whose left
    edge is at column x - 12.
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
    """The windows centred on `columns` [M] of `images` [M] (row numbers): [M, 6 * F]."""
    return np.concatenate([features[images, columns + offset + _PAD] for offset in _OFFSETS], axis=1)


def column_scores(features: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well a character of each class is centred at each column: [N, W, K]. weights: [6 * F + 1, K]."""
    n, padded, size = features.shape
    width = padded - 2 * _PAD + CELL
    scores = np.broadcast_to(weights[-1], (n, width, weights.shape[1])).copy()
    for part, offset in enumerate(_OFFSETS):
        scores += features[:, offset + _PAD : offset + _PAD + width] @ weights[part * size : (part + 1) * size]
    return scores


def fit_scorer(
    features: NDArray[np.float32], centres: NDArray[np.int64], classes: NDArray[np.int64], count: int, pitch: float
) -> NDArray[np.float32]:
    """Ridge regression: 1 for a class's centre, 0 elsewhere. Returns weights [6 * F + 1, count].

    centres: [N, L] columns, -1 where a text is shorter. classes: [N, L]. `pitch`: the usual distance of
    two centres; columns nearer than a quarter of it to a centre are not used as examples of "elsewhere".
    """
    width = features.shape[1] - 2 * _PAD + CELL
    image, place = np.nonzero(centres >= 0)
    right = windows_at(features, image, centres[image, place])
    distance = np.abs(np.arange(width)[None, :, None] - np.where(centres < 0, -width, centres)[:, None, :]).min(axis=2)
    # Every third column, another third in the next image: neighbours say nearly the same.
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
        examples = right[classes[image, place] == symbol]
        moments[:-1, symbol], moments[-1, symbol] = examples.sum(axis=0), len(examples)
    ridge = np.full(size, _RIDGE * np.trace(gram[:-1, :-1]) / (size - 1))
    ridge[-1] = 1e-6
    weights = np.linalg.solve(gram + np.diag(ridge), moments).astype(np.float32)
    # A class without examples never looks best anywhere.
    weights[-1, moments[-1] == 0] = -1.0
    return weights


def any_character(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """How well some character is centred at each column: [N, W, K] to [N, W]."""
    best: NDArray[np.float32] = scores.max(axis=2) + _ANY * scores.sum(axis=2)
    return best


def this_character(scores: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """How well the character of class `classes` [N] is centred at each column: [N, W, K] to [N, W]."""
    named: NDArray[np.float32] = np.take_along_axis(scores, classes[:, None, None], axis=2)[:, :, 0]
    sums: NDArray[np.float32] = scores.sum(axis=2)
    return named + _ANY * sums


def start_scores(centres: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """How usual each column is as the centre of a line's first character: [W], 0 for the most usual.

    centres: [N, L]. It is a smoothed log-histogram. Without it a wide character that looks like two narrow
    ones, an m, pushes the first character of its line out of the row.
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
    """The row of centres with the highest sum of scores, less a penalty for distances unlike `pitch`.

    scores: for each of L characters [N, W]. starts: what `start_scores` says, added to the first.
    Returns [N, L] columns, ascending, and their sums [N].
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
