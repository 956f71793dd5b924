"""The score and leaderboard stages on files, in a folder of their own."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from captchabench.errors import InputError
from captchabench.scoring.leaderboard import read_leaderboard
from captchabench.studies.ambiguity import AMBIGUITY
from stages import calibration, leaderboard, score

PARAMS = """
data: {source: standin}
normalize: {}
folds: {count: 5}
datasets: {numbers6: {images: 10}}
matrix: {datasets: [numbers6], models: [dummy], union: [], folds: [0, 1]}
training: {}
models: {dummy: {}, crnn: {}}
"""
OUTPUTS = (
    "arithmetic.csv",
    "leaderboard.csv",
    "leaderboard.md",
    "summary/numbers6/dummy.json",
    "confusion.csv",
    "curves.csv",
    "calibration.csv",
    "risk_coverage.csv",
)


@pytest.fixture
def project(tmp_path: Path, predict: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    for folder in ("data/timings", "metrics/curves"):
        Path(folder).mkdir(parents=True)
    for fold in (0, 1):
        name = f"numbers6-dummy-{fold}"
        predict([("12", "12"), ("34", "3")], model="dummy", fold=fold)
        train = {"train_seconds": 1.5, "device": "cpu", "threads": 2, "instructions": "avx2", "libraries": "torch 2"}
        Path(f"data/timings/{name}.train.json").write_text(json.dumps(train))
        Path(f"data/timings/{name}.predict.json").write_text(
            '{"images": 2, "predict_seconds": 0.01, "threads": 2, "instructions": "avx avx2"}'
        )
        Path(f"metrics/curves/{name}.csv").write_text(
            "step,epoch,learning_rate,train_loss,validation_loss,validation_exact\n1,1.0,,,,0.5\n"
        )
    ceiling = ("numbers6", "standin", "17", 0.8, 0.8, "by hand")
    pl.DataFrame([ceiling], AMBIGUITY.schema, orient="row").write_csv("metrics/ambiguity.csv")
    Path("metrics/data").mkdir()
    counted = {"0": {"groups": 2, "squares": 2}, "1": {"groups": 1, "squares": 4}}
    Path("metrics/data/audit.json").write_text(json.dumps({"datasets": {"numbers6": {"groups": counted}}}))
    return tmp_path


def test_two_runs_write_the_same_bytes(project: Path) -> None:
    runs = []
    for _ in range(2):
        score.main()
        calibration.main()
        leaderboard.main()
        runs.append({name: Path("metrics", name).read_bytes() for name in OUTPUTS})
    assert runs[0] == runs[1]
    assert json.loads(runs[0]["summary/numbers6/dummy.json"])["n"] == 4
    # Two stages on unlike machines: both are named.
    assert runs[0]["arithmetic.csv"].decode().splitlines()[1] == "numbers6,dummy,0,,cpu,2,,avx2 / avx avx2,torch 2"
    # All confidences are 0.9, and half the images are read wrong.
    assert json.loads(runs[0]["summary/numbers6/dummy.json"])["coverage_99"] == 0
    assert runs[0]["risk_coverage.csv"].decode().splitlines()[1:] == ["numbers6,standin,dummy,1.0,0.5,0.9"]
    assert runs[0]["calibration.csv"].decode().splitlines()[1:] == [
        "numbers6,standin,dummy,0.866667,0.933333,4,0.5,0.9"
    ]
    assert runs[0]["curves.csv"].decode().splitlines()[1] == "numbers6,standin,dummy,0,1,1.0,,,,0.5"


def test_the_leaderboard_has_the_share_of_the_ceiling_and_counts_near_duplicates_once(project: Path) -> None:
    score.main()
    calibration.main()
    leaderboard.main()
    row = read_leaderboard(Path("metrics/leaderboard.csv")).row(0, named=True)
    assert (row["n"], row["groups"], row["ceiling"], row["of_ceiling"]) == (4, 3, 0.8, 0.625)
    text = Path("metrics/leaderboard.md").read_text()
    assert "4 images (3 without near-duplicates) held out, 2 folds. Ceiling of exact match: 80.0% (by hand)." in text
    Path("metrics/data/audit.json").write_text("{}")
    with pytest.raises(InputError, match=r"audit.json: cannot be read .*run `dvc repro audit`"):
        leaderboard.main()


def test_metrics_of_models_that_left_the_matrix_are_removed(project: Path) -> None:
    kept = project / "metrics/summary/vtu/dummy.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    score.main()
    calibration.main()
    leaderboard.main()
    assert [path.name for path in (project / "metrics/summary").iterdir()] == ["numbers6"]


def test_nothing_is_written_where_a_cell_or_another_input_is_missing(project: Path) -> None:
    score.main()
    cell = Path("metrics/cells/numbers6-dummy-1.json")
    kept = cell.read_bytes()
    cell.unlink()
    with pytest.raises(InputError, match=r"numbers6-dummy-1.json: missing; run `dvc repro score`"):
        leaderboard.main()
    cell.write_bytes(kept)
    with pytest.raises(InputError, match="run `dvc repro calibration`"):
        leaderboard.main()
    calibration.main()
    Path("metrics/curves/numbers6-dummy-1.csv").unlink()
    with pytest.raises(InputError, match="run `dvc repro train@numbers6-dummy-1`"):
        leaderboard.main()
    assert not [name for name in OUTPUTS[:5] if Path("metrics", name).exists()]


def test_cells_are_those_of_the_matrix_and_no_others(project: Path) -> None:
    score.main()
    cells = Path("metrics/cells")
    assert sorted(path.name for path in cells.iterdir()) == ["numbers6-dummy-0.json", "numbers6-dummy-1.json"]
    before = (cells / "numbers6-dummy-0.json").read_bytes()
    # With one fold less its predictions stay, and its cell is removed.
    Path("params.yaml").write_text(PARAMS.replace("folds: [0, 1]", "folds: [0]"))
    score.main()
    assert [path.name for path in cells.iterdir()] == ["numbers6-dummy-0.json"]
    assert (cells / "numbers6-dummy-0.json").read_bytes() == before


def test_a_file_of_another_cell_or_none_is_refused_and_nothing_is_written(project: Path) -> None:
    predictions = Path("data/predictions")
    (predictions / "numbers6-dummy-1.parquet").rename(predictions / "kept.parquet")
    with pytest.raises(InputError, match="run `dvc repro predict@numbers6-dummy-1`"):
        score.main()
    (predictions / "numbers6-dummy-0.parquet").rename(predictions / "numbers6-dummy-1.parquet")
    (predictions / "kept.parquet").rename(predictions / "numbers6-dummy-0.parquet")
    with pytest.raises(InputError, match="holds numbers6-dummy-1; run `dvc repro predict@numbers6-dummy-0`"):
        score.main()
    assert not Path("metrics/cells").exists()
