"""Which character was read as which: Levenshtein alignment of many label and prediction pairs at once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# The gaps of an alignment, as words: symbols are single characters, so they cannot be mistaken for one.
DELETED = "deleted"
INSERTED = "inserted"

Confusion = dict[tuple[str, str], int]

# One past the last code point, and it fits into 21 bits.
_GAP = 0x110000
_BITS = 21
_CHUNK_ENTRIES = 1 << 23


def count_confusions(labels: Sequence[str], predictions: Sequence[str]) -> Confusion:
    """How often each character of the labels was read as which: (actual, predicted) -> count.

    Each pair is aligned with the fewest edits (Levenshtein 1966; insertion, deletion and substitution cost
    one each) and, among those alignments, with the fewest gaps: two characters read in each other's place
    are two wrong characters, not a gap, a hit and a gap. What is still tied is settled from the end of the
    words: substitution before deletion before insertion. A character of the label that no predicted one
    is aligned with is (character, DELETED), one that was read out of nothing is (INSERTED, character).
    """
    totals: Counter[tuple[str, str]] = Counter()
    shapes: dict[tuple[int, int], list[tuple[str, str, int]]] = defaultdict(list)
    for (label, prediction), times in Counter(zip(labels, predictions, strict=True)).items():
        if label == prediction:
            for symbol in label:
                totals[symbol, symbol] += times
        else:
            shapes[len(label), len(prediction)].append((label, prediction, times))
    for (length, width), pairs in shapes.items():
        step = max(1, _CHUNK_ENTRIES // ((length + 1) * (width + 1)))
        for start in range(0, len(pairs), step):
            chunk = pairs[start : start + step]
            actual = _code_points([a for a, _, _ in chunk], length)
            predicted = _code_points([b for _, b, _ in chunk], width)
            weights = np.array([times for _, _, times in chunk], np.int64)
            for pair, count in _tally(actual, predicted, weights):
                totals[pair] += count
    return dict(sorted(totals.items()))


def _code_points(texts: Sequence[str], length: int) -> NDArray[np.int32]:
    """Texts of one length as [length, N]."""
    flat = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<i4")
    return flat.reshape(len(texts), length).T


def _tally(
    actual: NDArray[np.int32], predicted: NDArray[np.int32], weights: NDArray[np.int64]
) -> Iterator[tuple[tuple[str, str], int]]:
    """Confusion counts of N pairs. actual: [L, N], predicted: [M, N] code points, weights: [N]."""
    keys, times = [], []
    for left, right, chosen in _backtrace(actual, predicted, _costs(actual, predicted)):
        keys.append((left.astype(np.int64) << _BITS) | right)
        times.append(weights[chosen])
    found, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    counts = np.zeros(len(found), np.int64)
    np.add.at(counts, inverse, np.concatenate(times))
    for key, count in zip(found.tolist(), counts.tolist(), strict=True):
        left, right = key >> _BITS, key & ((1 << _BITS) - 1)
        yield (INSERTED if left == _GAP else chr(left), DELETED if right == _GAP else chr(right)), count


def _costs(actual: NDArray[np.int32], predicted: NDArray[np.int32]) -> NDArray[np.int32]:
    """Cost of aligning each prefix pair: [L + 1, M + 1, N], edits first and gaps second in one integer."""
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
    """Walk all pairs from their ends at once; yield one step each: actual, predicted, index of the pair."""
    length, width = len(actual), len(predicted)
    edit = length + width + 1
    alive = np.arange(actual.shape[1])
    row, column = np.full(len(alive), length), np.full(len(alive), width)
    while len(alive):
        here = costs[row, column, alive]
        up, left = np.maximum(row - 1, 0), np.maximum(column - 1, 0)
        symbol = actual[up, alive] if length else np.full(len(alive), _GAP, np.int32)
        read = predicted[left, alive] if width else np.full(len(alive), _GAP, np.int32)
        replaced = (row > 0) & (column > 0) & (here == costs[up, left, alive] + edit * (symbol != read))
        deleted = ~replaced & (row > 0) & (here == costs[up, column, alive] + edit + 1)
        inserted = ~replaced & ~deleted
        yield np.where(inserted, _GAP, symbol), np.where(deleted, _GAP, read), alive
        row, column = row - ~inserted, column - ~deleted
        going = (row > 0) | (column > 0)
        alive, row, column = alive[going], row[going], column[going]
