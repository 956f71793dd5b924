"""Predictions summarised as counts, which can be added: the counts of two folds give the counts of both."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import editdistance
import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import fold_case
from captchabench.scoring.alignment import Confusion, count_confusions
from captchabench.scoring.calibration import BINS, Reliability
from captchabench.scoring.tiles import Selections, add_selections, count_selections, count_tiles, wrong_tiles


@dataclass(frozen=True)
class Counts:
    """Sufficient statistics of all metrics and their intervals.

    n: images. exact, exact_folded: images read correctly, case-sensitive and with case folded. edits: the sum of
    Levenshtein distances. characters: the sum of label lengths. in_place: characters of the labels that were read at
    their own position, without alignment. images: (edits, characters) -> number of images.
    confusion: (actual, predicted) -> count, gaps included. reliability: bins of confidence. ctc_loss: the sum in nats,
    None for a model without one.

    The symbols of grids stand for the classes of tiles. Their edits are tiles read wrong, and symbols are compared
    position by position. selections: the counts of the challenges "select all tiles with X", None for texts.
    """

    n: int
    exact: int
    exact_folded: int
    edits: int
    characters: int
    in_place: int
    images: dict[tuple[int, int], int]
    confusion: Confusion
    reliability: Reliability
    ctc_loss: float | None
    selections: Selections | None = None

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        predictions: Sequence[str],
        confidences: NDArray[np.floating],
        losses: NDArray[np.float64] | None,
        *,
        grids: bool = False,
    ) -> Self:
        """Count N predictions. confidences: [N] from 0 to 1; losses: [N] finite nats or None.

        grids: whether the texts are grids of tiles. Raises ValueError if a grid was read as more or fewer tiles.
        """
        pairs = Counter(zip(labels, predictions, strict=True))
        right = np.array([a == b for a, b in zip(labels, predictions, strict=True)], bool)
        images: Counter[tuple[int, int]] = Counter()
        for (label, prediction), times in pairs.items():
            edits = wrong_tiles(label, prediction) if grids else editdistance.eval(label, prediction)
            images[edits, len(label)] += times
        return cls(
            n=len(labels),
            exact=int(right.sum()),
            exact_folded=sum(times for (a, b), times in pairs.items() if fold_case(a) == fold_case(b)),
            edits=sum(times * edits for (edits, _), times in images.items()),
            characters=sum(map(len, labels)),
            in_place=sum(times * _in_place(label, prediction) for (label, prediction), times in pairs.items()),
            images=dict(sorted(images.items())),
            confusion=count_tiles(labels, predictions) if grids else count_confusions(labels, predictions),
            reliability=Reliability.of(confidences, right),
            ctc_loss=None if losses is None else math.fsum(losses),
            selections=count_selections(labels, predictions) if grids else None,
        )

    def __add__(self, other: Self) -> "Counts":
        """Counts of both sets of predictions. The sum has no loss if one of them has none."""
        return Counts(
            self.n + other.n,
            self.exact + other.exact,
            self.exact_folded + other.exact_folded,
            self.edits + other.edits,
            self.characters + other.characters,
            self.in_place + other.in_place,
            dict(sorted((Counter(self.images) + Counter(other.images)).items())),
            dict(sorted((Counter(self.confusion) + Counter(other.confusion)).items())),
            self.reliability + other.reliability,
            None if self.ctc_loss is None or other.ctc_loss is None else self.ctc_loss + other.ctc_loss,
            None
            if self.selections is None or other.selections is None
            else add_selections(self.selections, other.selections),
        )

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON values. `images` is nested: characters, then edits. Fields that are None are left out."""
        images: dict[str, dict[str, int]] = {}
        for (edits, characters), count in self.images.items():
            images.setdefault(str(characters), {})[str(edits)] = count
        confusion: dict[str, dict[str, int]] = {}
        for (actual, predicted), count in self.confusion.items():
            confusion.setdefault(actual, {})[predicted] = count
        values = {**asdict(self), "images": images, "confusion": confusion}
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        images = {
            (int(edits), int(characters)): int(count)
            for characters, row in values["images"].items()
            for edits, count in row.items()
        }
        confusion = {
            (actual, predicted): int(count)
            for actual, row in values["confusion"].items()
            for predicted, count in row.items()
        }
        reliability = Reliability(**{key: tuple(sums) for key, sums in values["reliability"].items()})
        if {len(reliability.samples), len(reliability.exact), len(reliability.confidence)} != {BINS}:
            raise ValueError(f"reliability does not have {BINS} bins")
        if sum(images.values()) != values["n"]:
            raise ValueError("images do not add up to n")
        selections = values.get("selections")
        names = ("n", "exact", "exact_folded", "edits", "characters", "in_place")
        return cls(
            **{name: int(values[name]) for name in names},
            images=dict(sorted(images.items())),
            confusion=confusion,
            reliability=reliability,
            ctc_loss=values.get("ctc_loss"),
            selections=selections and {symbol: (int(n), int(solved)) for symbol, (n, solved) in selections.items()},
        )


def _in_place(label: str, prediction: str) -> int:
    return sum(a == b for a, b in zip(label, prediction, strict=False))
