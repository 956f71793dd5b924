"""The recipes of the Makefile, with stand-ins for Python and uv that log what they are asked to do."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Answers like an interpreter, and makes an environment that holds a copy of itself.
STAND_IN = """#!/bin/sh
for word in "$@"; do printf '%s|' "$word" >>"$LOG"; done
echo >>"$LOG"
folder=
case "$1 $2" in "-m venv") folder=$3;; venv*) for folder in "$@"; do :; done;; esac
[ -z "$folder" ] || { mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python"; }
"""
ODD_NAMES = ("my project", 'it\'s "quoted"', "costs $HOME `id` #1; & (2)", "Übung 验证码")


def clone(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def stand_in(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def make(folder: Path, words: Sequence[str], path: Path | None = None) -> tuple[int, str, list[str]]:
    """The exit code of make, what it printed, and the commands that the stand-ins got, words ended by |."""
    log = folder / "log"
    done = subprocess.run(
        ["make", *words],
        cwd=folder,
        env={"PATH": f"{path or folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "LOG": str(log)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_the_path_of_the_clone_and_of_python_may_hold_any_character(name: str, tool: str, tmp_path: Path) -> None:
    folder = clone(tmp_path / name)
    python = stand_in(tmp_path / "pythons" / name / "python3")
    tools = tmp_path / "tools"
    tools.mkdir()
    if tool == "uv":
        stand_in(tools / "uv")
    code, said, asked = make(folder, ["repro", f"PYTHON={str(python).replace('$', '$$')}"], tools)
    assert code == 0, said
    assert (folder / ".venv/.complete").exists()
    assert sum("--require-hashes" in line for line in asked) == 1
    assert asked[-2:] == ["-m|flows.local|", "-m|captchabench|leaderboard|"]
    # The second time, the environment is there.
    assert make(folder, ["result", "RUN=a b"], tools)[2][len(asked) :] == [
        "-m|captchabench|apply|params.cpu.yaml|results/a b.yaml|",
        "-m|flows.local|",
        "-m|captchabench|publish|a b|",
        "-m|dvc|repro|--quiet|report|",
    ]


def test_a_folder_that_no_path_can_hold_is_one_line(tmp_path: Path) -> None:
    folder = clone(tmp_path / "at 10:30")
    python = stand_in(tmp_path / "python3")
    code, said, asked = make(folder, ["setup", f"PYTHON={python}"])
    assert code != 0
    assert said.startswith(f"error: {folder}: PATH cannot hold a folder with a colon; move the clone\n")
    assert asked == []
