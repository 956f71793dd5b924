"""Results are committed to a separate branch."""

import subprocess
from pathlib import Path

import pytest

from captchabench.errors import InputError
from flows.commit import check_branch, commit_results

PATHS = ["metrics/a.csv", "metrics/gone.csv"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "metrics").mkdir()
    for name in ("metrics/a.csv", "dvc.lock", "code.py"):
        (tmp_path / name).write_text("old\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_results_go_to_their_branch_and_nothing_else_moves(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    for name in ("metrics/a.csv", "dvc.lock"):
        (clone / name).write_text("new\n")
    before = git(clone, "status", "--porcelain")
    commit = commit_results(clone, "results", PATHS, "nightly")
    assert commit == git(clone, "rev-parse", "results")
    assert git(clone, "rev-parse", "results^") == head == git(clone, "rev-parse", "HEAD")
    assert git(clone, "diff", "--name-only", "HEAD", "results").split() == ["dvc.lock", "metrics/a.csv"]
    assert git(clone, "status", "--porcelain") == before
    assert commit_results(clone, "results", PATHS, "nightly") is None


def test_new_commits_are_merged_into_the_branch(clone: Path) -> None:
    (clone / "metrics/a.csv").write_text("new\n")
    first = commit_results(clone, "results", PATHS, "nightly")
    git(clone, "checkout", "-q", "metrics/a.csv")
    (clone / "code.py").write_text("newer\n")
    git(clone, "commit", "-qam", "code")
    (clone / "metrics/a.csv").write_text("newest\n")
    second = commit_results(clone, "results", PATHS, "nightly")
    assert git(clone, "rev-parse", f"{second}^1", f"{second}^2").split() == [first, git(clone, "rev-parse", "HEAD")]
    assert git(clone, "show", "results:code.py") == "newer"


@pytest.mark.parametrize("name", ["code.py", "metrics/notes.txt"])
def test_other_peoples_changes_are_refused(clone: Path, name: str) -> None:
    (clone / "metrics/a.csv").write_text("new\n")
    (clone / name).write_text("by hand\n")
    with pytest.raises(InputError, match=name):
        commit_results(clone, "results", PATHS, "nightly")
    assert git(clone, "branch", "--list", "results") == ""


@pytest.mark.parametrize(
    ("branch", "message"), [("main", "is checked out"), ("no..name", "is not a valid branch name")]
)
def test_a_branch_must_be_another(clone: Path, branch: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        commit_results(clone, branch, PATHS, "nightly")


def test_a_branch_that_cannot_be_made_is_refused_before_the_run(clone: Path, tmp_path: Path) -> None:
    git(clone, "branch", "runs/nightly")
    for name in ("runs", "runs/nightly/fast"):
        with pytest.raises(InputError, match="there cannot be a branch"):
            check_branch(clone, name)
    check_branch(clone, "runs/weekly")
    # The worktree would be left behind its branch.
    git(clone, "worktree", "add", "-q", str(tmp_path / "beside"), "runs/nightly")
    with pytest.raises(InputError, match="is checked out"):
        check_branch(clone, "runs/nightly")


def test_a_repository_without_a_commit_is_refused_before_the_run(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(InputError, match="has no commit yet"):
        check_branch(tmp_path, "results")
