"""What flows say about the folder of archives before DVC reads it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from captchabench.errors import InputError
from flows import ROOT
from flows.downloads import check_downloads

PARAMS = """
data: {{source: {source}, downloads: "{downloads}"}}
tiles: {{source: standin}}
matrix: {{datasets: [fournierp, vtu], tiles: {{datasets: [grid]}}}}
"""
SLUG = "captcha-version-2-images"


def repository(root: Path, downloads: str = "in/archives", source: str = "standin") -> Path:
    """A repository with a folder of archives; returns that folder."""
    (root / "params.yaml").write_text(PARAMS.format(source=source, downloads=downloads))
    folder = root / "in/archives"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("what belongs here")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return folder


@pytest.mark.parametrize("written", ["~/sets", "$SETS", "${SETS}/old", "~"])
def test_a_path_that_only_a_shell_expands_is_named_with_its_expansion(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SETS", "/mnt/sets")
    repository(tmp_path, written)
    full = {"~/sets": "/home/someone/sets", "$SETS": "/mnt/sets", "${SETS}/old": "/mnt/sets/old", "~": "/home/someone"}
    with pytest.raises(InputError) as caught:
        check_downloads(tmp_path)
    assert str(caught.value) == (
        f"params.yaml: data.downloads: {written}: DVC does not expand this; write {full[written]}"
    )


def test_a_folder_that_was_removed_comes_back_from_git(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    subprocess.run(["git", "add", "in"], cwd=tmp_path, check=True)
    for _ in range(2):
        (folder / "README.md").unlink()
        folder.rmdir()
        folder.parent.rmdir()
        assert check_downloads(tmp_path) == ["in/archives was removed, and DVC needs it: restored from Git"]
        assert (folder / "README.md").read_text() == "what belongs here"
        assert check_downloads(tmp_path) == []


@pytest.mark.parametrize("downloads", ["in/other", "/nowhere/archives", "params.yaml"])
def test_a_folder_that_git_does_not_have_is_an_error(downloads: str, tmp_path: Path) -> None:
    repository(tmp_path, downloads)
    with pytest.raises(InputError, match=f"^params.yaml: data.downloads: {downloads} is not a folder; create it"):
        check_downloads(tmp_path)


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        (b"set/\xd1\xe9\xc2\xeb.png", r"set/\xd1\xe9\xc2\xeb.png"),
        (b"\xfcbung.zip", r"\xfcbung.zip"),
        (b"a/b/\xc3\x28", r"a/b/\xc3("),
    ],
)
def test_a_name_that_is_not_utf8_is_found_before_dvc_fails_on_it(
    odd: bytes, shown: str, tmp_path: Path, pipeline: Any
) -> None:
    folder = repository(pipeline.folder, source="standin")
    path = os.path.join(os.fsencode(folder), odd)  # noqa: PTH118  # pathlib takes no bytes
    os.makedirs(path)  # noqa: PTH103
    ran = {}
    for module in ("recovery", "local"):
        done = subprocess.run(
            [sys.executable, "-m", f"flows.{module}"],
            cwd=pipeline.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        ran[module] = (done.returncode, done.stdout)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: params.yaml: data.downloads: ")
        assert f"{shown}: this name is not UTF-8" in line
        assert line.endswith("rename it, or put the archive there without unpacking it")
    assert ran == {"recovery": (1, ""), "local": (1, "")}
    assert pipeline.ran() == []


def test_other_names_are_left_alone(tmp_path: Path) -> None:
    folder = repository(tmp_path)
    for name in ("验证码", "übung", "u\u0308bung", "a b", "'"):
        (folder / name).touch()
    assert check_downloads(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["archive.zip", f"{SLUG} (1).zip", f"{SLUG}.ZIP", f"{SLUG}-master.tar.gz", "Captcha-Version-2-Images.tgz"]
)
def test_an_archive_under_the_name_of_its_site_is_named(name: str, tmp_path: Path) -> None:
    folder = repository(tmp_path, source="archive")
    (folder / "vtu-university-captchas-with-labels").mkdir()
    (folder / name).touch()
    assert check_downloads(tmp_path) == [
        f"fournierp: {folder} holds no {SLUG}.zip, but {name}; if this is the archive of fournierp, "
        f"rename it to {SLUG}.zip"
    ]
    (folder / SLUG).mkdir()
    assert check_downloads(tmp_path) == []


def test_archives_of_other_datasets_are_not_suggested(tmp_path: Path) -> None:
    folder = repository(tmp_path, source="archive")
    (folder / "captcha-dataset.zip").touch()
    (folder / "vtu-university-captchas-with-labels (2).zip").touch()
    (line,) = check_downloads(tmp_path)
    assert line.startswith("vtu: ")


def test_declared_archives_are_not_suggested(tmp_path: Path) -> None:
    folder = repository(tmp_path, source="archive")
    params = tmp_path / "params.yaml"
    (folder / "mine.zip").touch()
    assert len(check_downloads(tmp_path)) == 2
    params.write_text(f"{params.read_text()}\ndatasets: {{mine: {{path: in/archives/mine.zip}}}}\n")
    assert check_downloads(tmp_path) == []


def test_without_archives_in_use_none_is_named(tmp_path: Path) -> None:
    folder = repository(tmp_path, source="standin")
    (folder / "archive.zip").touch()
    assert check_downloads(tmp_path) == []
