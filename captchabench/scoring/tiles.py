"""Grids of tiles: what is peculiar to labels whose symbols are classes, each in its place."""

from collections import Counter
from collections.abc import Sequence

from captchabench.scoring.alignment import Confusion

# Class -> grids that hold it, and those of them in which the tiles read as it are the tiles that show it.
Selections = dict[str, tuple[int, int]]


def wrong_tiles(label: str, prediction: str) -> int:
    """Tiles read wrong: each is compared with the one in its place. The shorter text lacks its last tiles."""
    return sum(a != b for a, b in zip(label, prediction, strict=False)) + abs(len(label) - len(prediction))


def count_tiles(labels: Sequence[str], predictions: Sequence[str]) -> Confusion:
    """How often each class was read as which, tile by tile: (actual, predicted) -> count.

    Raises ValueError where a prediction has more or fewer tiles than its label.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for label, prediction in zip(labels, predictions, strict=True):
        pairs.update(zip(label, prediction, strict=True))
    return dict(sorted(pairs.items()))


def count_selections(labels: Sequence[str], predictions: Sequence[str]) -> Selections:
    """The challenges "select all tiles with X", for each class X that a grid holds, and how many were solved.

    Solved is a challenge if the tiles read as X are all the tiles that show X, and no others.
    """
    asked: Counter[str] = Counter()
    solved: Counter[str] = Counter()
    for label, prediction in zip(labels, predictions, strict=True):
        for wanted in set(label):
            asked[wanted] += 1
            solved[wanted] += all((a == wanted) == (b == wanted) for a, b in zip(label, prediction, strict=True))
    return {wanted: (asked[wanted], solved[wanted]) for wanted in sorted(asked)}


def add_selections(one: Selections, other: Selections) -> Selections:
    """The selections of both."""
    pooled = {}
    for wanted in sorted(one.keys() | other.keys()):
        (asked, solved), (more_asked, more_solved) = one.get(wanted, (0, 0)), other.get(wanted, (0, 0))
        pooled[wanted] = (asked + more_asked, solved + more_solved)
    return pooled


def class_scores(confusion: Confusion) -> dict[str, tuple[int, float, float, float]]:
    """Of each class that a tile shows: tiles, precision, recall, F1. A class that is never read has precision 0."""
    shown: Counter[str] = Counter()
    read: Counter[str] = Counter()
    for (actual, predicted), count in confusion.items():
        shown[actual] += count
        read[predicted] += count
    scores = {}
    for symbol in sorted(shown):
        hits, tiles, named = confusion.get((symbol, symbol), 0), shown[symbol], read[symbol]
        scores[symbol] = (tiles, hits / max(named, 1), hits / tiles, 2 * hits / (tiles + named))
    return scores
