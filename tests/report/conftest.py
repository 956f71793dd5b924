"""A small leaderboard made of counted predictions."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from captchabench.evaluation.cells import Part, ScoredCell
from captchabench.evaluation.counts import Counts
from captchabench.evaluation.leaderboard import Timing, leaderboard


def counted(*predictions: str) -> Counts:
    labels = ["1<", "23", "45", "67"]
    return Counts.of(labels, list(predictions), np.full(4, 0.5), None)


@pytest.fixture
def cells() -> list[ScoredCell]:
    """numbers6 by two models, and union by one of them, on the same four images."""
    good = Part("same", counted("1<", "23", "45", "68"))
    bad = Part("same", counted("1<", "", "4", "7677"))
    fair = Part("same", counted("1<", "23", "4", "8"))
    return [
        ScoredCell("numbers6", "hog_svc", 0, "standin", 3, 45_000, {"numbers6": bad}),
        ScoredCell("numbers6", "crnn", 0, "standin", 3, 1_200_000, {"numbers6": good}),
        ScoredCell("union", "crnn", 0, "standin", 4, 1_300_000, {"union": fair, "union/numbers6": fair}),
    ]


@pytest.fixture
def make_board(cells: list[ScoredCell]) -> Callable[[], pl.DataFrame]:
    """A function that gives the leaderboard of `cells`."""

    def make() -> pl.DataFrame:
        timing = Timing(77.3, 4, 0.002, "cpu", 4)
        return leaderboard(cells, {(c.dataset, c.model, c.fold): timing for c in cells})

    return make
