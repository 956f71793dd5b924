"""Scoring the predictions of one cell, and the files that are refused."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.scoring.cells import read_cell, score_predictions, write_cell

Predict = Callable[..., Path]


def test_a_cell_survives_the_disk(predict: Predict, tmp_path: Path) -> None:
    cell = score_predictions(predict([("12", "12"), ("34", "3")], losses=[0.5, 1.5]))
    assert (cell.dataset, cell.model, cell.fold, cell.parameters) == ("numbers6", "crnn", 0, 1234)
    counts = cell.parts["numbers6"].counts
    assert (counts.n, counts.exact, counts.edits, counts.characters, counts.ctc_loss) == (2, 1, 1, 4, 2.0)
    write_cell(tmp_path / "numbers6-crnn-0.json", cell)
    assert read_cell(tmp_path, Cell("numbers6", "crnn", 0)) == cell


def test_equal_predictions_give_equal_bytes_without_nan(predict: Predict, tmp_path: Path) -> None:
    path = predict([("12", "12"), ("34", "3")])
    texts = []
    for name in ("a.json", "b.json"):
        write_cell(tmp_path / name, score_predictions(path))
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert "NaN" not in texts[0]
    assert "ctc_loss" not in texts[0]
    assert list(json.loads(texts[0])) == sorted(json.loads(texts[0]))


def test_union_is_also_broken_down_by_member(predict: Predict) -> None:
    pairs = [("12", "12"), ("34", "3"), ("5", "5")]
    cell = score_predictions(predict(pairs, dataset="union", members=["a", "b", "b"]))
    counts = {name: (part.counts.n, part.counts.exact) for name, part in cell.parts.items()}
    assert counts == {"union": (3, 2), "union/a": (1, 1), "union/b": (2, 1)}


def test_a_members_images_have_the_same_digest_wherever_they_are_scored(predict: Predict) -> None:
    alone = score_predictions(predict([("34", "3"), ("5", "5")], dataset="b", ids=["x", "y"]))
    merged = score_predictions(
        predict(
            [("12", "12"), ("34", "34"), ("5", "")],
            dataset="union",
            members=["a", "b", "b"],
            ids=["w", "x", "y"],
        )
    )
    assert merged.parts["union/b"].samples == alone.parts["b"].samples
    assert merged.parts["union/a"].samples != alone.parts["b"].samples


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": []}, "holds no predictions; fold 0 of numbers6 is empty"),
        (
            {"folds": [0, 1]},
            r"images of folds \[0, 1\], not of 0 alone; run `dvc repro predict@numbers6-crnn-0`",
        ),
        ({"ids": ["same", "same"]}, "image same is predicted more than once"),
        ({"confidences": [0.5, math.nan]}, "has a confidence outside 0 to 1"),
        ({"confidences": [0.5, 1.1]}, "has a confidence outside 0 to 1"),
        ({"losses": [0.5, math.inf]}, "crnn has diverged"),
        ({"pairs": [("", "1"), ("2", "2")]}, "has an empty label"),
        ({"pairs": [("1", None), ("2", "2")]}, "1 of 2 rows have no prediction"),
    ],
)
def test_bad_predictions_are_one_clear_line(predict: Predict, changes: dict[str, Any], message: str) -> None:
    pairs = changes.pop("pairs", [("1", "1"), ("2", "2")])
    path = predict(pairs, **changes)
    with pytest.raises(InputError, match=message) as caught:
        score_predictions(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_confidence_above_one_by_a_rounding_error_counts_as_one(predict: Predict) -> None:
    cell = score_predictions(predict([("1", "1")], confidences=[1 + 1e-6]))
    assert cell.parts["numbers6"].counts.reliability.confidence[-1] == 1


def test_a_missing_or_foreign_cell_names_the_command(predict: Predict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"union-crnn-3.json: missing; run `dvc repro score`"):
        read_cell(tmp_path, Cell("union", "crnn", 3))
    path = tmp_path / "numbers6-crnn-0.json"
    for text in ("{", "[]", "{}", '{"parts": {"numbers6": {}}}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"is not one of our cells.*run `dvc repro score`"):
            read_cell(tmp_path, Cell("numbers6", "crnn", 0))
    write_cell(path, score_predictions(predict([("1", "1")], fold=1)))
    with pytest.raises(InputError, match="holds numbers6-crnn-1"):
        read_cell(tmp_path, Cell("numbers6", "crnn", 0))


def test_a_cell_without_the_counts_for_intervals_names_the_command(predict: Predict, tmp_path: Path) -> None:
    path = tmp_path / "numbers6-crnn-0.json"
    write_cell(path, score_predictions(predict([("1", "1")])))
    older = json.loads(path.read_text())
    for part in older["parts"].values():
        assert part.pop("images") == {"1": {"0": 1}}
    path.write_text(json.dumps(older))
    with pytest.raises(InputError, match=r"is not one of our cells.*images.*run `dvc repro score`"):
        read_cell(tmp_path, Cell("numbers6", "crnn", 0))


def test_scoring_needs_neither_torch_nor_polars_nor_scipy() -> None:
    heavy = "{'torch', 'polars', 'scipy', 'cv2', 'dvc', 'prefect'}"
    code = f"import stages.score, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
