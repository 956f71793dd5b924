"""A run's results as a commit on a branch of their own. Index, files and the current branch stay as they are."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from captchabench.errors import InputError

_LOCK = "dvc.lock"


def check_branch(root: Path, branch: str) -> None:
    """Raise InputError if results cannot go to `branch`: it is no name for one, or the one that is checked out."""
    if _try(root, "check-ref-format", "--branch", branch) is None:
        raise InputError(f"'{branch}' is no name of a branch; give another to commit to")
    if _try(root, "symbolic-ref", "--quiet", "--short", "HEAD") == branch:
        raise InputError(f"the branch '{branch}' is checked out; name another to commit to, such as results")


def changed_by_hand(root: Path, paths: Sequence[str]) -> list[str]:
    """The files that differ from HEAD, or are new, other than `paths`, which stages write, and dvc.lock."""
    listed = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all").split("\0")
    return [line[3:] for line in listed if line and line[3:] not in {*paths, _LOCK}]


def commit_results(root: Path, branch: str, paths: Sequence[str], message: str) -> str | None:
    """Commit `paths`, which stages wrote, and dvc.lock to `branch`; return the hash, None if nothing is new there.

    The branch begins at HEAD, and takes in what HEAD has got since. Raises InputError where anything else is
    changed: the results would not be those of the commit that they stand in.
    """
    check_branch(root, branch)
    own = {*paths, _LOCK}
    if others := changed_by_hand(root, paths):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(f"{others[0]}{more}: changed, but not by a stage; commit or undo it, then run again")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", more=index)
        present = [path for path in sorted(own) if (root / path).exists()]
        _git(root, "update-index", "--add", "-z", "--stdin", typed="\0".join(present), more=index)
        tree = _git(root, "write-tree", more=index)
    head = _git(root, "rev-parse", "HEAD")
    tip = _try(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    if tree == _git(root, "rev-parse", f"{tip or head}^{{tree}}"):
        return None
    parents = [head] if tip is None else [tip]
    if tip is not None and _try(root, "merge-base", "--is-ancestor", head, tip) is None:
        parents.append(head)
    commit = _git(root, "commit-tree", tree, "-m", message, *(word for parent in parents for word in ("-p", parent)))
    # Fails if the branch has moved meanwhile.
    _git(root, "update-ref", f"refs/heads/{branch}", commit, tip or "0" * len(commit))
    return commit


def head(root: Path) -> str:
    """The commit that is checked out. Raises InputError where there is none yet."""
    return _git(root, "rev-parse", "HEAD")


def _git(root: Path, *words: str, typed: str = "", more: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=root,
        input=typed,
        env={**os.environ, **(more or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"git {words[0]}: {said[-1]}")
    return done.stdout.strip("\n")


def _try(root: Path, *words: str) -> str | None:
    """What Git prints, None if it says no."""
    try:
        return _git(root, *words)
    except InputError:
        return None
