"""The flow on made-up readings of two machines: the same program, trained in float32 on four threads and in bfloat16
on one. The stage reads what a machine would have read from a file; scoring, comparison and flow are the real ones."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import State
from typer.testing import CliRunner

from captchabench.cli.app import app
from flows import benchmark as flow

PIPELINE = """
stages:
  predict:
    matrix: {dataset: [numbers6], model: [crnn], fold: [0]}
    cmd: python read.py
    deps: [read.py, machine.json]
    outs:
      - data/predictions/numbers6-crnn-0.parquet
      - {metrics/cells/numbers6-crnn-0.json: {cache: false}}
      - {metrics/arithmetic.csv: {cache: false}}
"""
PARAMS = "matrix: {datasets: [numbers6], models: [crnn], union: [], folds: [0]}\n"
READ = """
import json
from pathlib import Path
import numpy as np
from captchabench.networks.readings import Reading
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.shards import Samples, ShardInfo
from captchabench.scoring.arithmetic import ARITHMETIC, arithmetic
from captchabench.scoring.cells import score_predictions, write_cell

machine = json.loads(Path("machine.json").read_text())
n = 1200
labels = [f"{i:06d}" for i in range(n)]
wrong = {i for low, high in machine["wrong"] for i in range(low, high)}
texts = [f"{label[:5]}x" if i in wrong else label for i, label in enumerate(labels)]
info = ShardInfo("numbers6", "standin", 1, 2, 2, "0123456789x", 6, 6)
samples = Samples(
    info, np.array([f"{i:08x}" for i in range(n)], object), np.array(labels, object), np.zeros(n, np.int8),
    np.full(n, "numbers6", object), np.zeros((n, 2, 2), np.uint8),
)
described = PredictionInfo.of(info, "crnn", 0, 1234, precision=machine["precision"])
path = Path("data/predictions/numbers6-crnn-0.parquet")
path.parent.mkdir(parents=True, exist_ok=True)
write_predictions(path, described, samples, Reading(texts, np.full(n, 0.9, np.float32)), None)
cell = score_predictions(path)
write_cell(Path("metrics/cells/numbers6-crnn-0.json"), cell)
timings = Path("data/timings")
timings.mkdir(exist_ok=True)
for stage in ("train", "predict"):
    timing = {"device": "cpu (x86_64)", "threads": machine["threads"]}
    (timings / f"numbers6-crnn-0.{stage}.json").write_text(json.dumps(timing))
arithmetic([cell], timings).write_csv(ARITHMETIC.path)
"""
# 97.6 % of 1,200 images; 93.2 %, with 13 others right and 66 others wrong; 47.6 %.
FLOAT32 = {"precision": "float32", "threads": 4, "wrong": [[0, 29]]}
BFLOAT16 = {"precision": "bfloat16", "threads": 1, "wrong": [[13, 95]]}
BROKEN = {"precision": "float32", "threads": 4, "wrong": [[0, 629]]}

Run = Callable[[dict[str, Any]], State[Any]]


@pytest.fixture
def run(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the flow on a machine, in a repository whose last commit has the results of float32 on four threads."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    monkeypatch.setattr(flow, "ROOT", pipeline.folder)
    monkeypatch.chdir(pipeline.folder)
    for name, text in (("dvc.yaml", PIPELINE), ("params.yaml", PARAMS), ("read.py", READ)):
        pipeline.write(name, text)

    def on(machine: dict[str, Any]) -> State[Any]:
        pipeline.write("machine.json", json.dumps(machine))
        return partial(flow.benchmark, return_state=True)()

    state = on(FLOAT32)
    assert state.is_completed(), state.message
    pipeline.call("git", "add", "-A")
    pipeline.call("git", "commit", "-qm", "results")
    return on


def test_retraining_in_other_arithmetic_is_completed_and_every_output_says_why(run: Run) -> None:
    state = run(BFLOAT16)
    assert state.is_completed(), state.message
    artifact: Any = Artifact.get(key="comparison")
    told = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"})
    outputs = {
        "flow": str(artifact.data),
        "page": Path("reports/change.html").read_text(encoding="utf-8"),
        **{name: told.invoke(app, ["compare", "HEAD", "--format", name]).stdout for name in ("terminal", "markdown")},
    }
    assert outputs["flow"].startswith("Nothing is significantly worse.")
    for name, text in outputs.items():
        words = re.sub(r"\s+", " ", text.replace("-&gt;", "->"))
        # The terminal wraps the verdict, in a column of its own.
        assert "no significant change" in words, name
        assert "(provisional)" in words, name
        assert "[1, 2, 3]" in words, name
        assert "the arithmetic differs: precision float32 -> bfloat16; threads 4 -> 1" in words, name
        assert "the two trained models differ, but retraining the same program moves results as far" in words, name
    (row,) = json.loads(told.invoke(app, ["compare", "HEAD", "--format", "json"]).stdout)["rows"]
    assert row["words"] == "no significant change (provisional)"
    assert row["arithmetic"] == "precision float32 -> bfloat16; threads 4 -> 1"
    assert row["networks"]["p_holm"] < 1e-6


def test_a_broken_model_fails_the_run(run: Run) -> None:
    state = run(BROKEN)
    assert state.is_failed()
    assert state.message == "significantly worse: crnn on numbers6 (-50.0%, worse (provisional))"
