"""Git is read the same way whatever the user's settings are, from a subfolder, and what it refuses is passed on."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from captchabench import git
from captchabench.cli.publish import _committed
from captchabench.comparison.revisions import changed, commits, read_files, resolve
from captchabench.errors import InputError
from flows.commit import changed_by_hand, check_branch, commit_results
from flows.recovery import repair

# A program that signs anything, and finds every signature good.
GPG = """#!/bin/sh
case "$*" in
*--verify*) echo "gpg: Good signature" >&2; echo "[GNUPG:] GOODSIG 1 a" ;;
*) cat >/dev/null; echo "[GNUPG:] SIG_CREATED D" >&2
   printf -- '-----BEGIN PGP SIGNATURE-----\\n\\n-----END PGP SIGNATURE-----\\n' ;;
esac
"""
SETTINGS = """
[gpg]
    program = {gpg}
[log]
    showSignature = true
    date = relative
    decorate = full
    follow = true
    abbrevCommit = true
[color]
    ui = always
[core]
    quotePath = true
    abbrev = 4
    pager = false
    commentChar = "%"
[diff]
    noprefix = true
    renames = copies
    ignoreSubmodules = all
[status]
    showUntrackedFiles = no
    relativePaths = true
    branch = true
    short = true
    renames = copies
[i18n]
    logOutputEncoding = ISO-8859-1
    commitEncoding = ISO-8859-1
[format]
    pretty = oneline
[commit]
    gpgSign = true
"""


def call(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode(errors="replace").strip()


@pytest.fixture(params=["", "tools/the bénchmark"])
def clone(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A benchmark with two commits, the second signed: at the top of its repository, and in a subfolder."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "José")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    gpg = tmp_path / "gpg"
    gpg.write_text(GPG)
    gpg.chmod(0o755)
    top = tmp_path / "repository"
    root = Path(top, request.param)
    (root / "metrics/cells").mkdir(parents=True)
    (top / "metrics").mkdir(exist_ok=True)
    call(top, "init", "-q", "-b", "main")
    for name in ("metrics/table.csv", "metrics/cells/a.json", "dvc.lock", "çode.py"):
        (root / name).write_text("old\n")
    call(top, "add", "-A")
    call(top, "commit", "-qm", "première")
    (root / "metrics/table.csv").write_text("new\n")
    call(top, "-c", f"gpg.program={gpg}", "commit", "-qaS", "-m", "signed, größer")
    return root


@pytest.fixture
def settings(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the user's settings those above."""
    (tmp_path / "gitconfig").write_text(SETTINGS.format(gpg=tmp_path / "gpg"))

    def use() -> None:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))

    return use


def test_settings_change_nothing_that_is_read(clone: Path, settings: Callable[[], None]) -> None:
    (clone / "çode.py").rename(clone / "moved.py")
    (clone / "metrics/ném.csv").write_text("by hand\n")

    def found() -> list[object]:
        return [commits(clone), changed(clone), git.changed(clone), resolve("HEAD~1", clone), git.head(clone)]

    before = found()
    assert [commit.subject for commit in commits(clone)] == ["première", "signed, größer"]
    assert sorted(git.changed(clone)) == ["metrics/ném.csv", "moved.py", "çode.py"]
    settings()
    assert "Good signature" in call(clone, "log", "-1")
    assert found() == before
    assert read_files(clone, "HEAD~1", ["metrics/table.csv", "absent"]) == [b"old\n", None]


def test_results_are_committed_from_a_subfolder_under_any_settings(clone: Path, settings: Callable[[], None]) -> None:
    settings()
    made = ["metrics/cells", "metrics/table.csv"]
    (clone / "metrics/table.csv").write_text("newer\n")
    (clone / "metrics/cells/a.json").unlink()
    (clone / "metrics/cells/b.json").write_text("new\n")
    (clone / "dvc.lock").write_text("new\n")
    commit = commit_results(clone, "results", made, "nächtlich")
    assert commit
    assert commit == call(clone, "rev-parse", "refs/heads/results")
    listed = call(clone, "diff-tree", "-r", "--name-status", "--no-renames", "--relative", "HEAD", commit)
    assert [line.split() for line in listed.splitlines()] == [
        ["M", "dvc.lock"],
        ["D", "metrics/cells/a.json"],
        ["A", "metrics/cells/b.json"],
        ["M", "metrics/table.csv"],
    ]
    text = call(clone, "cat-file", "commit", commit)
    assert text.endswith("\n\nnächtlich")
    assert "encoding" not in text


def test_a_new_file_of_the_program_is_seen(clone: Path, settings: Callable[[], None]) -> None:
    settings()
    assert changed_by_hand(clone, []) == []
    (clone / "nëw.py").write_text("")
    assert changed_by_hand(clone, ["metrics"]) == ["nëw.py"]


def test_what_is_published_belongs_to_the_commit(
    clone: Path, settings: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings()
    monkeypatch.chdir(clone)
    (clone / "metrics/more.csv").write_text("of a stage\n")
    (clone / "params.yaml").write_text("of an overlay\n")
    assert _committed() == call(clone, "rev-parse", "HEAD")
    (clone / "my own.py").write_text("")
    with pytest.raises(InputError, match=r"^my own\.py: differs from the commit"):
        _committed()


def test_changes_elsewhere_in_the_repository_are_none_of_the_benchmark(clone: Path) -> None:
    top = Path(call(clone, "rev-parse", "--show-toplevel"))
    if top == clone:
        pytest.skip("has no elsewhere")
    (top / "metrics/other.csv").write_text("of another project\n")
    assert not changed(clone)
    assert changed_by_hand(clone, []) == []
    call(top, "add", "-A")
    call(top, "commit", "-qm", "another project")
    assert len(commits(clone)) == 2


def test_a_hook_does_not_redirect_git(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git.head(clone)
    call(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    assert git.head(clone) == head
    assert git.changed(clone) == []


def test_a_committed_lock_file_is_not_taken_for_a_truncated_one(clone: Path, settings: Callable[[], None]) -> None:
    stages = [f"  {name}:\n    cmd: echo\n" for name in ("one", "two")]
    (clone / ".dvc/tmp").mkdir(parents=True)
    (clone / ".dvc/tmp/kept.dvc.lock").write_text("schema: '2.0'\nstages:\n" + "".join(stages))
    (clone / "dvc.lock").write_text("schema: '2.0'\nstages:\n" + stages[0])
    call(clone, "add", "dvc.lock")
    call(clone, "commit", "-qm", "a shorter one")
    settings()
    assert repair(clone) == []
    assert "two" not in (clone / "dvc.lock").read_text()


def test_what_git_refuses_is_passed_on_with_its_remedy(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the folder belonged to another user.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    if not git.run(clone, "rev-parse").returncode:
        pytest.skip("this Git does not look at the owner")
    for attempt in (lambda: commits(clone), lambda: resolve("HEAD", clone), lambda: git.changed(clone)):
        with pytest.raises(InputError, match=r"dubious ownership.* git config --global --add safe\.directory"):
            attempt()


def test_who_commits_is_asked_before_the_run(clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    (tmp_path / "anonymous").write_text("[user]\n    useConfigOnly = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "anonymous"))
    monkeypatch.delenv("EMAIL", raising=False)
    with pytest.raises(InputError, match=r"git config --global user\.email"):
        check_branch(clone, "results")


def test_a_shallow_clone_says_how_to_get_older_commits(clone: Path, tmp_path: Path) -> None:
    top = call(clone, "rev-parse", "--show-toplevel")
    call(tmp_path, "clone", "-q", "--depth", "1", f"file://{top}", "shallow")
    shallow = tmp_path / "shallow" / clone.relative_to(top)
    with pytest.raises(InputError, match=r"no commit, branch or tag called 'HEAD~1'; .*`git fetch --unshallow`"):
        resolve("HEAD~1", shallow)
    assert len(commits(shallow)) == 1
    call(shallow, "fetch", "-q", "--unshallow")
    assert resolve("HEAD~1", shallow) == resolve("HEAD~1", clone)


def test_a_partial_clone_gets_the_files_of_a_commit(clone: Path, tmp_path: Path) -> None:
    top = call(clone, "rev-parse", "--show-toplevel")
    for text in ("between\n", "last\n"):
        (clone / "metrics/table.csv").write_text(text)
        call(clone, "commit", "-qam", text)
    call(clone, "config", "uploadpack.allowFilter", "true")
    call(clone, "config", "uploadpack.allowAnySHA1InWant", "true")
    call(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{top}", "partial")
    partial = tmp_path / "partial" / clone.relative_to(top)
    absent = ("rev-list", "--objects", "--missing=print", "--no-walk", "HEAD~1", "--", ".")
    assert "?" in call(partial, *absent)
    git.complete(partial, "HEAD~1")
    assert "?" not in call(partial, *absent)


def test_a_detached_head_is_no_hindrance(clone: Path) -> None:
    call(clone, "checkout", "-q", "--detach", "HEAD~1")
    assert [commit.subject for commit in commits(clone)] == ["première"]
    (clone / "metrics/table.csv").write_text("newest\n")
    assert commit_results(clone, "results", ["metrics"], "from a detached head")
    assert call(clone, "rev-parse", "results^") == git.head(clone)


def test_all_files_are_checked_out_with_the_bytes_that_dvc_hashed(tmp_path: Path) -> None:
    """In a clone with core.autocrlf, which would turn each \\n into \\r\\n and make every stage stale."""
    root = Path(__file__).parents[1]
    shutil.copy(root / ".gitattributes", tmp_path)
    (tmp_path / "captchabench").mkdir()
    names = ["captchabench/one.py", "dvc.lock", "table.csv", "Makefile"]
    for name in names:
        (tmp_path / name).write_bytes(b"one\ntwo\n")
    call(tmp_path, "init", "-q")
    call(tmp_path, "config", "core.autocrlf", "true")
    call(tmp_path, "add", "-A")
    for name in names:
        (tmp_path / name).unlink()
    call(tmp_path, "checkout", "-q", "--", ".")
    assert {(tmp_path / name).read_bytes() for name in names} == {b"one\ntwo\n"}


def test_make_stops_without_a_repository_before_it_installs(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    # With this Python, the installation fails at its first step.
    command = ["make", "repro", "PYTHON=false"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this folder is not in a Git repository, which DVC needs; run git init")
    call(tmp_path, "init", "-q")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "repository" not in done.stdout + done.stderr
    assert "false is older than 3.11" in done.stdout


def test_no_other_module_runs_git() -> None:
    root = Path(__file__).parents[1]
    runs = re.compile(r"""["']git["'], ?["'*]""")
    paths = [path for folder in ("captchabench", "flows", "stages") for path in (root / folder).rglob("*.py")]
    running = [path.relative_to(root).as_posix() for path in paths if runs.search(path.read_text(encoding="utf-8"))]
    assert running == ["captchabench/git.py"]
