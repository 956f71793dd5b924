"""Commits a run's results to a separate branch. Index, files and the current branch stay unchanged."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from captchabench.errors import InputError

_LOCK = "dvc.lock"


def check_branch(root: Path, branch: str) -> None:
    """Raise InputError if results cannot go to `branch`: the name is invalid, or the branch is checked out."""
    if _try(root, "check-ref-format", "--branch", branch) is None:
        raise InputError(f"'{branch}' is not a valid branch name; give another to commit to")
    if _try(root, "symbolic-ref", "--quiet", "--short", "HEAD") == branch:
        raise InputError(f"the branch '{branch}' is checked out; name another to commit to, such as results")


def changed_by_hand(root: Path, paths: Sequence[str]) -> list[str]:
    """Files that are new or differ from HEAD, except `paths`, which stages write, and dvc.lock."""
    listed = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all").split("\0")
    return [line[3:] for line in listed if line and line[3:] not in {*paths, _LOCK}]


def commit_results(root: Path, branch: str, paths: Sequence[str], message: str) -> str | None:
    """Commit `paths`, which stages wrote, and dvc.lock to `branch`; return the hash, None if nothing changed.

    A new branch starts at HEAD; an existing one also gets HEAD as a parent if it lacks it. Raises InputError if
    any other file is changed: the results would not belong to the commit that contains them.
    """
    check_branch(root, branch)
    results = {*paths, _LOCK}
    if changed := changed_by_hand(root, paths):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(f"{changed[0]}{more}: changed, but not by a stage; commit or undo it, then run again")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", variables=index)
        present = [path for path in sorted(results) if (root / path).exists()]
        _git(root, "update-index", "--add", "-z", "--stdin", stdin="\0".join(present), variables=index)
        tree = _git(root, "write-tree", variables=index)
    head = _git(root, "rev-parse", "HEAD")
    tip = _try(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    if tree == _git(root, "rev-parse", f"{tip or head}^{{tree}}"):
        return None
    parents = [head] if tip is None else [tip]
    if tip is not None and _try(root, "merge-base", "--is-ancestor", head, tip) is None:
        parents.append(head)
    commit = _git(root, "commit-tree", tree, "-m", message, *(word for parent in parents for word in ("-p", parent)))
    # Fails if the branch has moved in the meantime.
    _git(root, "update-ref", f"refs/heads/{branch}", commit, tip or "0" * len(commit))
    return commit


def head(root: Path) -> str:
    """The commit that is checked out. Raises InputError if there is none yet."""
    return _git(root, "rev-parse", "HEAD")


def _git(root: Path, *arguments: str, stdin: str = "", variables: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        input=stdin,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"git {arguments[0]}: {lines[-1]}")
    return done.stdout.strip("\n")


def _try(root: Path, *arguments: str) -> str | None:
    """Git's output; None if the command fails."""
    try:
        return _git(root, *arguments)
    except InputError:
        return None
