"""Rows of the leaderboard during a run, as soon as a model has read the held-out images of all its folds."""

import json
from collections import defaultdict
from collections.abc import Iterable
from functools import reduce
from operator import add
from pathlib import Path

from captchabench.errors import InputError
from captchabench.scoring.cells import score_predictions
from captchabench.scoring.intervals import wilson
from flows.dispatch import Outcome
from flows.graph import Stage

_STAGES = ("predict", "predict-union", "predict-tiles")


class Rows:
    """The rows that a run completes. stages: all stages. due: the stages of this run."""

    def __init__(self, root: Path, stages: Iterable[Stage], due: Iterable[Stage]) -> None:
        self._root = root
        # Cells come from the stages, not from files, which may be of cells that are no longer in the matrix.
        self._cells: dict[tuple[str, str], list[str]] = defaultdict(list)
        for stage in stages:
            if row := _row_of(stage.name):
                self._cells[row].append(stage.name.partition("@")[2])
        self._waiting: dict[tuple[str, str], set[str]] = defaultdict(set)
        for stage in due:
            if row := _row_of(stage.name):
                self._waiting[row].add(stage.name)

    def ended(self, name: str, outcome: Outcome) -> str | None:
        """The row that a stage completes, as text: exact match with its 95 % interval, CER, seconds of training."""
        row = _row_of(name)
        if row is None or outcome.failure:
            return None
        self._waiting[row].discard(name)
        if self._waiting[row]:
            return None
        try:
            return self._describe(*row)
        except (InputError, OSError, ValueError, KeyError):
            # The stages that make the tables report the error.
            return None

    def _describe(self, dataset: str, model: str) -> str:
        cells = self._cells[dataset, model]
        scored = [score_predictions(self._root / "data/predictions" / f"{cell}.parquet") for cell in cells]
        counts = reduce(add, (cell.parts[dataset].counts for cell in scored))
        timings = [json.loads((self._root / f"data/timings/{cell}.train.json").read_bytes()) for cell in cells]
        seconds = sum(timing["train_seconds"] for timing in timings) / len(timings)
        interval = wilson(counts.exact, counts.n)
        wrong = "tiles wrong" if counts.selections is not None else "CER"
        return (
            f"{dataset}  {model}  {counts.exact / counts.n:.1%} exact "
            f"({100 * interval.low:.1f}–{100 * interval.high:.1f}), "
            f"{wrong} {counts.edits / counts.characters:.1%}, trained in {seconds:,.1f} s"
        )


def _row_of(stage: str) -> tuple[str, str] | None:
    """Dataset and model of a stage that reads held-out images; None for other stages."""
    kind, _, cell = stage.partition("@")
    if kind not in _STAGES:
        return None
    dataset, model, _fold = cell.split("-")
    return dataset, model
