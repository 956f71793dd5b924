"""Character confusions, by Levenshtein alignment of many (label, prediction) pairs at once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Names for the gaps of an alignment. Symbols are single characters, so they cannot be confused with these.
DELETED = "deleted"
INSERTED = "inserted"

Confusion = dict[tuple[str, str], int]

# One past the last code point; it fits into 21 bits.
_GAP = 0x110000
_BITS = 21
_CHUNK_ENTRIES = 1 << 23


def count_confusions(labels: Sequence[str], predictions: Sequence[str]) -> Confusion:
    """How often each character of the labels was read as each other one: (actual, predicted) -> count.

    Each pair is aligned with the fewest edits (Levenshtein 1966; an insertion, deletion or substitution costs one).
    Among those alignments the one with the fewest gaps is taken: two swapped characters are two substitutions, not a
    deletion, a match and an insertion. Remaining ties are resolved from the end of the texts: substitution before
    deletion before insertion. A deleted character of the label counts as (character, DELETED), an inserted one as
    (INSERTED, character).
    """
    totals: Counter[tuple[str, str]] = Counter()
    by_lengths: dict[tuple[int, int], list[tuple[str, str, int]]] = defaultdict(list)
    for (label, prediction), times in Counter(zip(labels, predictions, strict=True)).items():
        if label == prediction:
            for symbol in label:
                totals[symbol, symbol] += times
        else:
            by_lengths[len(label), len(prediction)].append((label, prediction, times))
    for (length, width), pairs in by_lengths.items():
        size = max(1, _CHUNK_ENTRIES // ((length + 1) * (width + 1)))
        for start in range(0, len(pairs), size):
            chunk = pairs[start : start + size]
            actual = _code_points([a for a, _, _ in chunk], length)
            predicted = _code_points([b for _, b, _ in chunk], width)
            weights = np.array([times for _, _, times in chunk], np.int64)
            for pair, count in _tally(actual, predicted, weights):
                totals[pair] += count
    return dict(sorted(totals.items()))


def _code_points(texts: Sequence[str], length: int) -> NDArray[np.int32]:
    """Code points of N texts of one length: [length, N]."""
    flat = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<i4")
    return flat.reshape(len(texts), length).T


def _tally(
    actual: NDArray[np.int32], predicted: NDArray[np.int32], weights: NDArray[np.int64]
) -> Iterator[tuple[tuple[str, str], int]]:
    """Confusion counts of N pairs. actual: [L, N], predicted: [M, N] code points, weights: [N]."""
    keys, times = [], []
    for left, right, indices in _backtrace(actual, predicted, _costs(actual, predicted)):
        keys.append((left.astype(np.int64) << _BITS) | right)
        times.append(weights[indices])
    unique_keys, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    counts = np.zeros(len(unique_keys), np.int64)
    np.add.at(counts, inverse, np.concatenate(times))
    for key, count in zip(unique_keys.tolist(), counts.tolist(), strict=True):
        left, right = key >> _BITS, key & ((1 << _BITS) - 1)
        yield (INSERTED if left == _GAP else chr(left), DELETED if right == _GAP else chr(right)), count


def _costs(actual: NDArray[np.int32], predicted: NDArray[np.int32]) -> NDArray[np.int32]:
    """Cost of aligning each pair of prefixes: [L + 1, M + 1, N]. One integer holds edits, then gaps."""
    length, width = len(actual), len(predicted)
    edit = length + width + 1
    costs = np.zeros((length + 1, width + 1, actual.shape[1]), np.int32)
    costs[:, 0] = np.arange(length + 1)[:, None] * (edit + 1)
    costs[0, :] = np.arange(width + 1)[:, None] * (edit + 1)
    for i in range(1, length + 1):
        for j in range(1, width + 1):
            replaced = costs[i - 1, j - 1] + edit * (actual[i - 1] != predicted[j - 1])
            gap = np.minimum(costs[i - 1, j], costs[i, j - 1]) + edit + 1
            np.minimum(replaced, gap, out=costs[i, j])
    return costs


def _backtrace(
    actual: NDArray[np.int32], predicted: NDArray[np.int32], costs: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]]:
    """Trace N pairs back from their ends, all at once; yield for each step: actual, predicted, index of the pair."""
    length, width = len(actual), len(predicted)
    edit = length + width + 1
    pending = np.arange(actual.shape[1])
    row, column = np.full(len(pending), length), np.full(len(pending), width)
    while len(pending):
        cost = costs[row, column, pending]
        up, left = np.maximum(row - 1, 0), np.maximum(column - 1, 0)
        symbol = actual[up, pending] if length else np.full(len(pending), _GAP, np.int32)
        read = predicted[left, pending] if width else np.full(len(pending), _GAP, np.int32)
        replaced = (row > 0) & (column > 0) & (cost == costs[up, left, pending] + edit * (symbol != read))
        deleted = ~replaced & (row > 0) & (cost == costs[up, column, pending] + edit + 1)
        inserted = ~replaced & ~deleted
        yield np.where(inserted, _GAP, symbol), np.where(deleted, _GAP, read), pending
        row, column = row - ~inserted, column - ~deleted
        unfinished = (row > 0) | (column > 0)
        pending, row, column = pending[unfinished], row[unfinished], column[unfinished]
