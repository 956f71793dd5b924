"""Runs Git in the benchmark's folder, which may be any folder of a repository.

The commands used here are plumbing, or get options that override the user's configuration. So no configuration changes
what is read. Paths are relative to the benchmark's folder.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from captchabench.errors import InputError

# Without locks, reading does not disturb a `git commit` of the user. Text is UTF-8 in both directions.
_OPTIONS = ("--no-optional-locks", "-c", "i18n.logOutputEncoding=UTF-8", "-c", "i18n.commitEncoding=UTF-8")
# Git sets these for hooks and aliases. They name another repository, index or folder, or change how paths are read.
_NOT_PASSED_ON = {"GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE"}
_NOT_PASSED_ON |= {f"GIT_{kind}_PATHSPECS" for kind in ("LITERAL", "GLOB", "NOGLOB", "ICASE")}
_PREFIXES = ("fatal: ", "error: ", "hint: ")


def run(
    root: Path, *arguments: str, stdin: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run Git in the folder `root`, whatever its exit code. Raises InputError if Git is not installed.

    stdin: its standard input. variables: added to the environment.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    try:
        return subprocess.run(
            ["git", *_OPTIONS, *arguments],
            cwd=root,
            input=os.fsencode(stdin),
            env={**inherited, **(variables or {})},
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise InputError("git: no such program; install Git, which is needed to read commits") from None


def read(root: Path, *arguments: str, stdin: str = "", variables: Mapping[str, str] | None = None) -> str:
    """What Git prints, without the line break at its end. Raises InputError with Git's reason if it fails.

    Bytes that are not UTF-8 are kept as surrogates, so that a path can be opened.
    """
    done = run(root, *arguments, stdin=stdin, variables=variables)
    if done.returncode:
        check_repository(root)
        raise InputError(f"git {arguments[0]}: {_reason(done)}")
    return os.fsdecode(done.stdout).removesuffix("\n")


def check_repository(root: Path) -> None:
    """Raise InputError, with Git's remedy if it has one, unless `root` is in a Git repository with a commit."""
    done = run(root, "rev-parse", "--git-dir")
    if done.returncode:
        if has_repository(root):
            # Git refuses it, for example because another user owns it.
            raise InputError(f"git: {_reason(done)}")
        raise InputError(f"{root.resolve()}: is not in a Git repository; run in a clone of the benchmark")
    if run(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").returncode:
        raise InputError(f"{root.resolve()}: has no commit yet; commit metrics/ and dvc.lock")


def has_repository(root: Path) -> bool:
    """Whether the folder or one above it has a .git, as in a clone. A downloaded zip file has none."""
    folder = root.resolve()
    return any((parent / ".git").exists() for parent in (folder, *folder.parents))


def is_shallow(root: Path) -> bool:
    """Whether the clone lacks older commits."""
    return read(root, "rev-parse", "--is-shallow-repository") == "true"


def prefix(root: Path) -> str:
    """The folder relative to the top of the repository, as "tools/benchmark/"; "" for the top itself."""
    return read(root, "rev-parse", "--show-prefix")


def head(root: Path) -> str:
    """The hash of the commit that is checked out. Raises InputError if there is none yet."""
    return read(root, "rev-parse", "--verify", "HEAD^{commit}")


def changed(root: Path, folder: str = ".") -> list[str]:
    """Files in `folder` that are new, differ from HEAD or were removed, except those that Git ignores.

    Files elsewhere in the repository are not listed.
    """
    options = ("--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none")
    listed = read(root, "status", *options, "--", folder).split("\0")
    # These paths are relative to the top of the repository.
    start = len("XY ") + len(prefix(root))
    return [entry[start:] for entry in listed if entry]


def read_files(root: Path, names: Sequence[str]) -> list[bytes | None]:
    """The contents of files in commits, read in one call; None for each missing file.

    names: such as COMMIT:./PATH, with PATH relative to `root`.
    """
    stream = BytesIO(run(root, "cat-file", "--batch", stdin="\n".join([*names, ""])).stdout)
    contents: list[bytes | None] = []
    for _ in names:
        header = stream.readline().split()
        if header[-1:] == [b"missing"] or len(header) != 3:
            contents.append(None)
        else:
            contents.append(stream.read(int(header[2])))
            stream.readline()
    return contents


def complete(root: Path, commit: str) -> None:
    """Fetch the files of a commit that a partial clone (`git clone --filter=...`) lacks, those of `root` alone.

    Git itself fetches a file when it reads it. Other readers of the repository, such as DVC's, wait for it forever.
    """
    if run(root, "config", "--get-regexp", r"^remote\..*\.promisor$").returncode:
        return
    nothing = read(root, "hash-object", "-t", "tree", "--stdin")
    # Counting the lines of all files makes Git fetch them at once.
    read(root, "diff-tree", "-r", "--numstat", nothing, commit, "--", ".")


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """All that Git says about its failure, as one line."""
    lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
    for start in _PREFIXES:
        lines = [line.removeprefix(start) for line in lines]
    return " ".join(line for line in lines if line) or f"exit code {done.returncode}"
