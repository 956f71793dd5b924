"""Commits a run's results to a separate branch. Index, files and the current branch stay unchanged."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from captchabench import git
from captchabench.errors import InputError

_LOCK = "dvc.lock"


def check_branch(root: Path, branch: str) -> None:
    """Raise InputError if results cannot go to `branch`.

    The name is invalid, the branch is checked out, there is no commit to start from, or Git does not know who commits.
    """
    git.check_repository(root)
    if _try(root, "check-ref-format", "--branch", branch) != branch:
        raise InputError(f"'{branch}' is not a valid branch name; give another to commit to")
    listed = git.read(root, "for-each-ref", "--format=%(refname:lstrip=2)%00%(worktreepath)", "refs/heads")
    for line in listed.splitlines():
        other, worktree = line.split("\0")
        # Also in another worktree of the same repository.
        if other == branch and worktree:
            raise InputError(f"the branch '{branch}' is checked out; name another to commit to, such as results")
        if other.startswith(f"{branch}/") or branch.startswith(f"{other}/"):
            raise InputError(f"there cannot be a branch '{branch}' beside '{other}'; name another to commit to")
    for who in ("AUTHOR", "COMMITTER"):
        git.read(root, "var", f"GIT_{who}_IDENT")


def check_unchanged(root: Path, made: Sequence[str]) -> None:
    """Raise InputError if a file was changed by hand: the results would not belong to the commit that has them.

    made: files and folders that stages write.
    """
    if changed := changed_by_hand(root, made):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(f"{changed[0]}{more}: changed, but not by a stage; commit or undo it, then run again")


def changed_by_hand(root: Path, made: Sequence[str]) -> list[str]:
    """Files that are new or differ from HEAD, except dvc.lock and the files and folders in `made`."""
    return [path for path in git.changed(root) if not _is_within(path, [*made, _LOCK])]


def commit_results(root: Path, branch: str, made: Sequence[str], message: str) -> str | None:
    """Commit what stages wrote and dvc.lock to `branch`; return the hash, None if nothing changed.

    made: files and folders that stages write and Git keeps. A new branch starts at HEAD; an existing one also gets HEAD
    as a parent if it lacks it. Raises InputError if any other file is changed.
    """
    check_branch(root, branch)
    check_unchanged(root, made)
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git.read(root, "read-tree", "HEAD", variables=index)
        # A file that stages no longer write is removed.
        results = {*_files(root, [*made, _LOCK]), *_committed(root, [*made, _LOCK])}
        listed = "\0".join(sorted(results))
        git.read(root, "update-index", "--add", "--remove", "-z", "--stdin", stdin=listed, variables=index)
        tree = git.read(root, "write-tree", variables=index)
    head = git.head(root)
    tip = _try(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    if tree == git.read(root, "rev-parse", f"{tip or head}^{{tree}}"):
        return None
    parents = [head] if tip is None else [tip]
    if tip is not None and _try(root, "merge-base", "--is-ancestor", head, tip) is None:
        parents.append(head)
    commit = git.read(
        root, "commit-tree", tree, "-m", message, *(word for parent in parents for word in ("-p", parent))
    )
    # Fails if the branch has moved in the meantime.
    git.read(root, "update-ref", f"refs/heads/{branch}", commit, tip or "0" * len(commit))
    return commit


def _files(root: Path, made: Sequence[str]) -> list[str]:
    """The files that exist of `made`, and those in its folders."""
    paths = [path for name in made for path in (root / name, *(root / name).rglob("*"))]
    return [path.relative_to(root).as_posix() for path in paths if path.is_file()]


def _committed(root: Path, made: Sequence[str]) -> list[str]:
    """The files of `made` and of its folders in HEAD."""
    listed = git.read(root, "ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")
    return [path for path in listed if _is_within(path, made)]


def _is_within(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _try(root: Path, *arguments: str) -> str | None:
    """Git's output; None if the command fails."""
    done = git.run(root, *arguments)
    return None if done.returncode else done.stdout.decode().removesuffix("\n")
