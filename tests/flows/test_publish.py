"""The published comparison of results with those of another commit."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from captchabench.errors import InputError
from flows import publish

GRID: dict[str, Any] = {"datasets": ["numbers6"], "models": ["crnn", "hog_svc"], "union": [], "folds": [0]}


def git(folder: Path, *words: str) -> None:
    own = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True)


def write_cell(folder: Path, model: str, exact: int) -> None:
    counts = {"samples": "digest", "n": 1000, "exact": exact, "edits": 1000 - exact, "characters": 6000}
    cell = {"dataset": "numbers6", "source": "standin", "version": 1, "parts": {"numbers6": counts}}
    path = folder / f"metrics/cells/numbers6-{model}-0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cell))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with results but without predictions, so that the test is unpaired."""
    git(tmp_path, "init", "-q")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"matrix": GRID}))
    for model in GRID["models"]:
        write_cell(tmp_path, model, 950)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "results")
    return tmp_path


def test_a_row_that_got_worse_is_named_first(clone: Path) -> None:
    write_cell(clone, "crnn", 700)
    text, worse = publish.compared(clone, None, 0.0)
    assert worse == ["crnn on numbers6 (-25.0%, worse (provisional))"]
    assert text.startswith("**Significantly worse: crnn on numbers6 (-25.0%, worse (provisional)).**\n\n")
    assert "| hog_svc |" in text
    assert publish.compared(clone, None, 0.3)[1] == []


def test_chance_is_no_regression(clone: Path) -> None:
    write_cell(clone, "crnn", 946)
    write_cell(clone, "hog_svc", 953)
    text, worse = publish.compared(clone, None, 0.0)
    assert worse == []
    assert text.startswith("Nothing is significantly worse.")


def test_without_a_commit_of_results_nothing_is_compared(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    bare = tmp_path_factory.mktemp("bare")
    git(bare, "init", "-q")
    (bare / "notes").write_text("")
    git(bare, "add", "-A")
    git(bare, "commit", "-qm", "nothing yet")
    assert publish.compared(bare, None, 0.0) == (
        "No commit has results yet; there is nothing to compare with.",
        [],
    )
    for baseline in ("nowhere", "--output=stolen", "HEAD\0", "\ud800"):
        with pytest.raises(InputError, match="no commit, branch or tag called"):
            publish.compared(clone, baseline, 0.0)
    assert not (clone / "stolen").exists()
