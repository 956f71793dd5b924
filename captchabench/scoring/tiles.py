"""Counts and scores of grids of tiles, whose labels have one symbol per tile: its class."""

from collections import Counter
from collections.abc import Sequence

from captchabench.scoring.alignment import Confusion

# Class -> (grids that contain it, those of them in which exactly its tiles were read as this class).
Selections = dict[str, tuple[int, int]]


def wrong_tiles(label: str, prediction: str) -> int:
    """The number of tiles read wrong, compared position by position. Missing or extra tiles at the end are wrong."""
    return sum(a != b for a, b in zip(label, prediction, strict=False)) + abs(len(label) - len(prediction))


def count_tiles(labels: Sequence[str], predictions: Sequence[str]) -> Confusion:
    """How often each class was read as each other one, tile by tile: (actual, predicted) -> count.

    Raises ValueError if a prediction has more or fewer tiles than its label.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for label, prediction in zip(labels, predictions, strict=True):
        pairs.update(zip(label, prediction, strict=True))
    return dict(sorted(pairs.items()))


def count_selections(labels: Sequence[str], predictions: Sequence[str]) -> Selections:
    """The challenges "select all tiles with X", one for each class X that a grid contains, and how many are solved.

    A challenge is solved if the tiles read as X are exactly the tiles that show X.
    """
    challenges: Counter[str] = Counter()
    solved: Counter[str] = Counter()
    for label, prediction in zip(labels, predictions, strict=True):
        for symbol in set(label):
            challenges[symbol] += 1
            solved[symbol] += all((a == symbol) == (b == symbol) for a, b in zip(label, prediction, strict=True))
    return {symbol: (challenges[symbol], solved[symbol]) for symbol in sorted(challenges)}


def add_selections(one: Selections, other: Selections) -> Selections:
    """The sums of both."""
    pooled = {}
    for symbol in sorted(one.keys() | other.keys()):
        (n_one, solved_one), (n_other, solved_other) = one.get(symbol, (0, 0)), other.get(symbol, (0, 0))
        pooled[symbol] = (n_one + n_other, solved_one + solved_other)
    return pooled


def class_scores(confusion: Confusion) -> dict[str, tuple[int, float, float, float]]:
    """Class -> (tiles that show it, precision, recall, F1). A class that is never read has precision 0."""
    shown: Counter[str] = Counter()
    read: Counter[str] = Counter()
    for (actual, predicted), count in confusion.items():
        shown[actual] += count
        read[predicted] += count
    scores = {}
    for symbol in sorted(shown):
        hits, tiles, positives = confusion.get((symbol, symbol), 0), shown[symbol], read[symbol]
        scores[symbol] = (tiles, hits / max(positives, 1), hits / tiles, 2 * hits / (tiles + positives))
    return scores
