"""The doctor lists devices, tries everything, survives broken parts, and has the right exit code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from captchabench.cli.app import app
from captchabench.doctor import machine, trial, trials
from captchabench.models import RECOGNISERS
from captchabench.models.neural import NeuralRecogniser

RUN = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
CPU = {"device": "cpu", "name": "CPU", "about": "one thread"}
SOUND = {"model": "crnn", "training": 1234.5, "reading": 99.4, "steps": "eager", "problem": ""}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Visible devices -> results of the trial, which tests fill in."""
    result: dict[str, list[dict[str, Any]]] = {"": [CPU, SOUND, {"ended": ""}]}
    monkeypatch.setattr(trials, "results_of", lambda visible, compiled, limit: iter(result[visible]))
    monkeypatch.setattr(machine, "devices", lambda: (list(result), []))
    monkeypatch.setattr(machine, "_LEAST_MEMORY", 0)
    monkeypatch.setattr(machine, "_LEAST_DISK", 0)
    return result


def test_every_recogniser_is_really_tried(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_IMAGES", 16)
    monkeypatch.setattr(trial, "_BUDGETS", {"cpu": {"steps": 1, "batch_size": 4}})
    trial.main()
    device, *tried = map(json.loads, capfd.readouterr().out.splitlines())
    assert device == CPU
    assert [row["model"] for row in tried] == RECOGNISERS.names()
    for row in tried:
        assert not row["problem"]
        assert row["training"] > 0
        assert row["reading"] > 0
        assert (row["steps"] == "eager") == issubclass(RECOGNISERS[row["model"]], NeuralRecogniser)


def test_the_page_fits_eighty_columns_and_ends_well(results: dict[str, list[dict[str, Any]]]) -> None:
    done = RUN.invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 80
    for output in (torch.__version__, "CPU, no GPU was found", "1,234", "99", "agrees", "no problems found"):
        assert output in done.output


def test_problems_are_reported_with_what_to_do(results: dict[str, list[dict[str, Any]]]) -> None:
    refused = {**SOUND, "problem": "recorded steps: losses differ by 9.00% after 4 steps, rounding explains 0.10%"}
    results["0"] = [{"device": "cuda", "name": "Some GPU", "about": "8.0 GB"}, refused, {"ended": ""}]
    results["1"] = [{"ended": "its process ended with signal 11: it printed no error"}]
    done = RUN.invoke(app, ["doctor"])
    assert done.exit_code == 3
    assert "GPU 0: Some GPU, 8.0 GB" in done.output
    output = " ".join(done.output.split())
    assert "problems: 2" in output
    assert "GPU 0, crnn: recorded steps: losses differ by 9.00%" in output
    assert "GPU 1: its process ended with signal 11: it printed no error; meanwhile set CUDA_VISIBLE_DEVICES=" in output


def test_json_has_the_same_content(results: dict[str, list[dict[str, Any]]]) -> None:
    result = json.loads(RUN.invoke(app, ["doctor", "--json"]).output)
    assert result["facts"]["versions"]["torch"] == torch.__version__
    assert result["devices"] == [{**CPU, "visible": "", "recognisers": [SOUND]}]
    assert result["problems"] == []


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("print('{}')", ""),
        (
            "import sys; print('one\\nCUDA error: \\x1b[31mbad', file=sys.stderr); sys.exit(1)",
            "code 1: CUDA error: \\x1b",
        ),
        ("import os; os.kill(os.getpid(), 11)", "signal 11: it printed no error"),
        ("import time; time.sleep(60)", "it was killed after 3 s"),
    ],
)
def test_a_trial_that_crashes_is_reported(program: str, ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: popen([sys.executable, "-c", program], **how))
    *_, last = trials.results_of("", compiled=False, limit=3)
    assert ended in last["ended"] if ended else not last["ended"]


def test_a_gpu_that_torch_cannot_use_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_nvidia", lambda field: ["Some GPU"])

    def broken() -> bool:
        raise RuntimeError("the NVIDIA driver on your system is too old\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", broken)
    devices, (problem,) = machine.devices()
    assert devices == [""]
    assert problem.startswith("1 GPU (Some GPU) that torch cannot use (the NVIDIA driver on your system is too old):")


def test_devices_are_those_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-aa")
    assert machine.devices() == (["", "3", "GPU-aa"], [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert machine.devices() == (["", "0", "1"], [])


def test_a_missing_program_of_the_driver_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._nvidia("name") == []
