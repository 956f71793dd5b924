"""Rows of the leaderboard that a run shows before the leaderboard is written."""

from collections.abc import Callable
from pathlib import Path

from flows.dispatch import Outcome
from flows.graph import Stage
from flows.resources import Need
from flows.rows import Rows


def test_a_row_has_the_cells_of_the_matrix_only(predict: Callable[..., Path]) -> None:
    stages = [Stage(f"predict@numbers6-crnn-{fold}", (), Need()) for fold in (0, 1)]
    for fold in (0, 1, 2):
        predict([("1", "1"), ("2", "2" if fold < 2 else "3")], fold=fold)
    root = predict([("1", "1")], fold=3).parents[2]
    for fold in (0, 1):
        timing = root / f"data/timings/numbers6-crnn-{fold}.train.json"
        timing.parent.mkdir(exist_ok=True)
        timing.write_text('{"train_seconds": 2.0}')
    rows = Rows(root, stages, stages[:1])
    row = rows.ended(stages[0].name, Outcome(made=True))
    assert row is not None
    assert row.startswith("numbers6  crnn  100.0% exact")
    # Without predictions there is no row and no error.
    assert Rows(root / "data", stages, stages[:1]).ended(stages[0].name, Outcome(made=True)) is None
