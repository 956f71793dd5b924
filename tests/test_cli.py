"""The output and the exit codes of the commands."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from captchabench.cli.app import app

RUN = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def test_help_names_every_command() -> None:
    done = RUN.invoke(app, ["--help"])
    assert done.exit_code == 0
    for command in ("leaderboard", "apply", "datasets", "models", "compare", "history", "doctor"):
        assert command in done.output


def test_models_and_datasets_are_listed() -> None:
    assert "cnn_transformer" in RUN.invoke(app, ["models"]).output
    assert "fournierp/captcha-version-2-images" in RUN.invoke(app, ["datasets"]).output


@pytest.mark.parametrize("module", ["captchabench", "captchabench.cli.app"])
def test_the_commands_are_there_without_the_script(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "models"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "cnn_transformer" in done.stdout
    wrong = subprocess.run([sys.executable, "-m", module, "modles"], capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "No such command" in wrong.stderr


@pytest.mark.parametrize("words", [["models"], ["--help"]])
def test_without_docstrings_the_names_are_listed_with_a_note(words: list[str]) -> None:
    command = [sys.executable, "-OO", "-m", "captchabench", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert ("crnn" if words == ["models"] else "leaderboard") in done.stdout
    (line,) = done.stderr.splitlines()
    assert "PYTHONOPTIMIZE=2" in line


def test_in_a_folder_of_the_project_the_project_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "docs").mkdir()
    for folder, named in ((tmp_path / "docs", True), (tmp_path, False)):
        monkeypatch.chdir(folder)
        with pytest.raises(SystemExit):
            app(["leaderboard"])
        error = capfd.readouterr().err
        assert error.startswith("error: metrics/leaderboard.csv: cannot be read")
        assert (f"the project is in {tmp_path.resolve()}; run it there" in error) is named


def test_a_missing_leaderboard_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = RUN.invoke(app, ["leaderboard", str(tmp_path / "none.csv")])
    assert done.exit_code == 1
    assert "none.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_apply_says_what_it_changed(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("data:\n  seed: 1  # why\n")
    overlay = tmp_path / "over.yaml"
    overlay.write_text("data: {seed: 2}\n")
    done = RUN.invoke(app, ["apply", str(overlay), "--params", str(params)])
    assert done.exit_code == 0
    assert done.output.strip() == "data.seed: 1 -> 2"
    assert params.read_text() == "data:\n  seed: 2  # why\n"
