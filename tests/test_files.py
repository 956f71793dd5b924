"""Outputs are written whole or not at all, and no temporary files are left."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from captchabench.errors import InputError
from captchabench.storage.files import (
    open_regular,
    read_regular,
    replacing_file,
    replacing_folder,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    with contextlib.suppress(RuntimeError), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
    assert '"a": 2' in path.read_text()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for content in ("one", "two"):
        with replacing_folder(folder) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in folder.iterdir()] == ["two"]
    with contextlib.suppress(RuntimeError), replacing_folder(folder) as temporary:
        (temporary / "three").write_text("")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert [p.name for p in folder.iterdir()] == ["two"]


DIES = """
import os, sys
from pathlib import Path
from captchabench.storage.files import replacing_file, replacing_folder
kept = []
for replacing in (replacing_file, replacing_folder):
    kept.append(replacing(Path(sys.argv[1], "output")))
    kept[-1].__enter__()
os.kill(os.getpid(), 9)
"""


def test_files_of_a_killed_writer_are_removed_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    assert len(list(tmp_path.glob(".output.*.tmp"))) == 2
    write_text(tmp_path / "output", "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["output"]


def test_files_of_another_running_writer_stay(tmp_path: Path) -> None:
    path = tmp_path / "output"
    with replacing_file(path) as first:
        first.write_text("first")
        write_text(path, "second")
        assert first.exists()
    assert path.read_text() == "first"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_a_full_disk_is_one_line_and_the_old_output_stays(
    tmp_path: Path, code: int, replacing: Callable[[Path], contextlib.AbstractContextManager[Path]]
) -> None:
    path = tmp_path / "output"
    path.mkdir()
    with pytest.raises(InputError, match=r"output: cannot be written \(.*\); .*, then run this again"), replacing(path):
        raise OSError(code, "words of a library")
    assert [p.name for p in tmp_path.iterdir()] == ["output"]


def test_a_file_elsewhere_is_not_taken_for_the_output(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing_file(tmp_path / "output"):
        raise PermissionError(errno.EACCES, "not yours", "/elsewhere")


@pytest.mark.timeout(300)
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="Not a regular file"):
            open_regular(path)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs /proc")
def test_files_of_size_zero_are_not_opened(tmp_path: Path) -> None:
    # Reading such a file may block forever, as with /proc/kmsg.
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", Path("/proc/version")):
        with pytest.raises(OSError, match="Empty"):
            open_regular(path)


def test_only_the_needed_part_of_a_large_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"abc")
    assert [read_regular(tmp_path / "link", most) for most in (0, 2, 3, 1 << 62)] == [b"a", b"abc", b"abc", b"abc"]
