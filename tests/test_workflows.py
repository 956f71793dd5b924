"""The workflows: valid YAML, no third-party action, and one comment that is posted once and then edited."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github/workflows"
OWN_ACTIONS = {"actions/checkout", "actions/setup-python"}

# Replaces the GitHub CLI: stores what is posted, and finds a comment once one was posted.
GH = """#!/usr/bin/env bash
echo "$*" >>calls.txt
for word in "$@"; do
  case $word in body=@*) cp "${word#body=@}" posted.md ;; esac
done
case "$*" in *--jq*) if [ -f posted.md ]; then printf '7\\n9\\n'; fi ;; esac
"""
# Replaces the two commands that the comparison runs.
CAPTCHABENCH = """#!/usr/bin/env bash
[ -z "$FAILS" ] || { echo "error: no metrics there" >&2; exit 1; }
echo "# HEAD against $2"
"""
DVC = """#!/usr/bin/env bash
echo "$STATUS"
"""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: str) -> list[dict[str, Any]]:
    jobs = read(FOLDER / workflow)["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def script(workflow: str, words: str) -> str:
    """The shell script of the only step that contains these words."""
    (result,) = (step["run"] for step in steps(workflow) if words in step.get("run", ""))
    return str(result)


def run_script(text: str, folder: Path, commands: dict[str, str], **environment: str) -> None:
    """Run a step as GitHub does, with replaced commands."""
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, content in commands.items():
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    subprocess.run(shell, cwd=folder, env={**os.environ, **environment, "PATH": path}, check=True, timeout=60)


@pytest.mark.parametrize("workflow", sorted(path.name for path in FOLDER.iterdir()))
def test_only_checkout_and_setup_python_are_used(workflow: str) -> None:
    used = [step["uses"].partition("@") for step in steps(workflow) if "uses" in step]
    assert {name for name, _, _ in used} <= OWN_ACTIONS
    assert all(version for _, _, version in used)


def test_the_gate_is_the_one_of_the_repository() -> None:
    assert ".ci/run" in [step.get("run") for step in steps("gate.yml")]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_code_of_a_pull_request_never_runs_with_a_token_that_can_write() -> None:
    jobs = read(FOLDER / "compare.yml")["jobs"]
    assert jobs["compare"]["permissions"] == {"contents": "read"}
    assert not any("uses" in step for step in jobs["comment"]["steps"])
    for workflow in ("gate.yml", "compare.yml"):
        for step in steps(workflow):
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
            # An expression inside a script would be run as part of it.
            assert "${{" not in step.get("run", "")


def test_a_comment_is_posted_once_and_then_edited(tmp_path: Path) -> None:
    text = script("compare.yml", "gh api")
    where = {"COMMENTS": "repos/o/r/issues/3/comments", "COMMENT": "repos/o/r/issues/comments"}
    odd = '# a `table` with $HOME, "quotes" and\n| rows |'
    run_script(text, tmp_path, {"gh": GH}, COMPARISON=odd, **where)
    assert (tmp_path / "posted.md").read_text() == f"<!-- captchabench compare -->\n{odd}\n"
    look, post = (tmp_path / "calls.txt").read_text().splitlines()
    assert look.startswith("api --paginate repos/o/r/issues/3/comments --jq ")
    assert post == "api repos/o/r/issues/3/comments --field body=@body.md --silent"

    run_script(text, tmp_path, {"gh": GH}, COMPARISON="newer", **where)
    assert (tmp_path / "calls.txt").read_text().splitlines()[3] == (
        "api --method PATCH repos/o/r/issues/comments/7 --field body=@body.md --silent"
    )
    assert "newer" in (tmp_path / "posted.md").read_text()


@pytest.mark.parametrize("fails", ["", "1"])
@pytest.mark.parametrize("status", ["Data and pipelines are up to date.", "Running stage 'score':"])
def test_the_comparison_is_an_output_of_its_step(fails: str, status: str, tmp_path: Path) -> None:
    output, summary = tmp_path / "output", tmp_path / "summary"
    run_script(
        script("compare.yml", "GITHUB_OUTPUT"),
        tmp_path,
        {"captchabench": CAPTCHABENCH, "dvc": DVC},
        BASE="0123456789abcdef",
        FAILS=fails,
        STATUS=status,
        GITHUB_OUTPUT=str(output),
        GITHUB_STEP_SUMMARY=str(summary),
    )
    first, *lines, last = output.read_text().splitlines()
    assert first == f"comparison<<{last}"
    said = "\n".join(lines)
    assert summary.read_text().strip() == said.strip()
    assert ("no metrics there" in said) == bool(fails)
    assert ("# HEAD against 0123456789abcdef" in said) != bool(fails)
    assert ("are stale" in said) == status.startswith("Running")


def test_hooks_run_tools_of_the_projects_environment() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program, *words = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        assert hook["language"] == "system"
        tool = Path(sys.executable).with_name(Path(program).name)
        assert tool.exists()
        if hook.get("pass_filenames", True):
            subprocess.run([tool, *words, __file__], cwd=ROOT, check=True, capture_output=True, timeout=60)
