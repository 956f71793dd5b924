"""The change against the previous commit: found where there is one, and never a reason to have no page."""

import subprocess
from pathlib import Path

import pytest

from captchabench.errors import InputError
from captchabench.report import change
from captchabench.report.change import change_since_previous, this_revision


def git(folder: Path, *words: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, metrics: str) -> str:
    """Commit a text as metrics; its short hash."""
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics" / "leaderboard.csv").write_text(metrics)
    git(folder, "add", "metrics")
    git(folder, "commit", "--quiet", "--message", metrics)
    return git(folder, "rev-parse", "HEAD")[:7]


class Compared:
    """Stands in for both the sides and the comparison, and notes whom it was asked about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.rows = (self,)
        monkeypatch.setattr(change, "side", lambda name, root: self.asked.append(name))
        monkeypatch.setattr(change, "compare", lambda old, new: self)

    def as_json(self) -> dict[str, str]:
        return {"verdict": "better"}


def test_metrics_not_committed_are_compared_with_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "first")
    second = commit(tmp_path, "second")
    (tmp_path / "metrics" / "leaderboard.csv").write_text("third")
    compared = Compared(monkeypatch)
    found = change_since_previous(tmp_path)
    assert compared.asked == [second, "workspace"]
    assert found.against.startswith(f"{second} (second, 20")
    assert found.rows == [{"verdict": "better"}]
    assert this_revision(tmp_path) == f"{second}, and metrics that are not committed yet"


def test_committed_metrics_are_compared_with_the_ones_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    first = commit(tmp_path, "first")
    second = commit(tmp_path, "second")
    compared = Compared(monkeypatch)
    change_since_previous(tmp_path)
    assert compared.asked == [first, "workspace"]
    assert this_revision(tmp_path) == second


def test_a_first_commit_has_nothing_to_compare_with(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "first")
    assert change_since_previous(tmp_path).reason == "There is no earlier commit with metrics to compare with."


def test_no_repository_is_a_sentence(tmp_path: Path) -> None:
    assert "is not in a Git repository" in change_since_previous(tmp_path).reason
    assert this_revision(tmp_path).startswith("unknown: ")


def test_a_commit_that_cannot_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "first")
    commit(tmp_path, "second")
    # There is no params.yaml.
    assert "has no params.yaml" in change_since_previous(tmp_path).reason
    for error in (InputError("no cells"), RuntimeError("no cells")):
        Compared(monkeypatch)
        monkeypatch.setattr(change, "compare", lambda old, new, error=error: (_ for _ in ()).throw(error))
        found = change_since_previous(tmp_path)
        assert "no cells" in found.reason
        assert not found.rows
