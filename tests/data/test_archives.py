"""Archives of every kind, sound, hostile and broken."""

import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from captchabench.data import archives
from captchabench.data.archives import find_archive, open_archive
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError

Pack = Callable[[Path, dict[str, bytes]], Path]
KINDS = ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a"]
FILES = {
    "deep/er/b2.PNG": b"two",
    "a1.jpg": b"one",
    "__MACOSX/a1.jpg": b"",
    "deep/.hidden.png": b"",
    "readme.txt": b"not an image",
    "labels.csv": b"",
}


def contents(path: Path) -> dict[str, bytes]:
    archive = open_archive(path)
    return {entry.path: entry.encoded for entry in archive.read(archive.members)}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        contents(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "; " in message  # what is wrong; how to mend it
    return message


@pytest.mark.parametrize("name", KINDS)
def test_images_are_read_at_any_depth_and_the_rest_is_counted(tmp_path: Path, packed: Pack, name: str) -> None:
    archive = open_archive(packed(tmp_path / name, FILES))
    entries = list(archive.read(archive.members))
    assert {e.path: e.encoded for e in entries} == {"a1.jpg": b"one", "deep/er/b2.PNG": b"two"}
    assert {e.stem for e in entries} == {"a1", "b2"}
    assert archive.skipped == {"hidden": 2, "not_an_image_name": 2}


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_order_is_that_of_names(tmp_path: Path, packed: Pack, name: str) -> None:
    archive = open_archive(packed(tmp_path / name, {f"{n}.png": b"x" for n in (3, 1, 2)}))
    assert [e.path for e in archive.read(archive.members)] == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize("name", KINDS)
def test_some_members_can_be_read_alone(tmp_path: Path, packed: Pack, name: str) -> None:
    archive = open_archive(packed(tmp_path / name, {f"{n}.png": b"%d" % n for n in range(9)}))
    chosen = [m for m in archive.members if m.path in ("2.png", "7.png")]
    assert {e.path: e.encoded for e in archive.read(chosen)} == {"2.png": b"2", "7.png": b"7"}


def test_namesakes_in_a_zip_are_both_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.png", b"2")
    opened = open_archive(tmp_path / "a.zip")
    assert [e.encoded for e in opened.read(opened.members)] == [b"1", b"2"]


@pytest.mark.parametrize("name", KINDS)
def test_an_archive_without_images_is_refused(tmp_path: Path, packed: Pack, name: str) -> None:
    assert "holds no images" in refusal(packed(tmp_path / name, {"readme.txt": b"x"}))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 100, b"PK\x03\x04", b"\x1f\x8b\x08\x00"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "cut off" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_archive_is_refused(tmp_path: Path, packed: Pack, name: str, share: float) -> None:
    path = packed(tmp_path / name, {f"{n}.png": os.urandom(3000) for n in range(20)})
    whole = path.read_bytes().rstrip(b"\0") if name == "a.tar" else path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut off" in refusal(path)


def test_a_tar_cut_between_two_files_is_refused(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.tar", {f"{n}.png": b"\1" * 512 for n in range(5)})
    path.write_bytes(path.read_bytes()[: 2 * 1024])
    assert "cut off" in refusal(path)


def test_a_damaged_member_is_named(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.zip", {"x.png": os.urandom(2000)})
    damaged = bytearray(path.read_bytes())
    damaged[500] ^= 255
    path.write_bytes(bytes(damaged))
    assert "'x.png' is damaged" in refusal(path)


def test_a_damaged_gzip_is_refused(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.tgz", {"x.png": os.urandom(2000)})
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 255  # in the checksum, behind all files
    path.write_bytes(bytes(damaged))
    assert "no tar archive" in refusal(path)


def test_an_encrypted_member_is_refused(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.zip", {"x.png": b"secret"})
    sealed = bytearray(path.read_bytes())
    sealed[sealed.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(bytes(sealed))
    assert "'x.png', which is encrypted" in refusal(path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    "name", ["../x.png", "in/../../x.png", "/etc/x.png", "..\\x.png", "C:\\x.png", "c:x.png", "../notes.txt"]
)
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, packed: Pack, kind: str, name: str) -> None:
    path = packed(tmp_path / kind, {"fine.png": b"x", name: b"x"})
    assert "leads out of" in refusal(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert re.search("'x.png', which is (a link|not a plain file)", refusal(tmp_path / "a.tar"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "'x.png', which is a link" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("target", ["file.png", "."])
def test_a_link_in_a_folder_is_refused(tmp_path: Path, packed: Pack, target: str) -> None:
    path = packed(tmp_path / "a", {"file.png": b"x"})
    (path / "link.png").symlink_to(target)
    assert "'link.png', which is a link" in refusal(path)


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a", {"file.png": b"x"})
    os.mkfifo(path / "pipe.png")
    assert "not a plain file" in refusal(path)


@pytest.mark.parametrize("name", KINDS)
def test_a_member_past_the_limit_is_refused(
    tmp_path: Path, packed: Pack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    path = packed(tmp_path / name, {"small.png": b"x", "big.png": bytes((1 << 20) + 1)})
    assert "'big.png', which expands past 1 MiB" in refusal(path)


@pytest.mark.parametrize("name", KINDS)
def test_more_than_the_limit_in_all_is_refused(
    tmp_path: Path, packed: Pack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 5000)
    path = packed(tmp_path / name, {f"{n}.png": bytes(2000) for n in range(3)})
    assert "expands past" in refusal(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_bomb_is_refused(tmp_path: Path, packed: Pack, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 1 << 16)
    path = packed(tmp_path / name, {f"{n}.png": bytes(1 << 19) for n in range(4)})
    assert "100 times its size" in refusal(path)


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.zip", {"x.png": bytes(1 << 20)})
    lying = bytearray(path.read_bytes())
    entry = lying.index(b"PK\x01\x02")
    lying[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(bytes(lying))
    assert "'x.png' is damaged" in refusal(path)


def test_names_that_are_no_text_become_text(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("caf\udce9.png")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert list(contents(tmp_path / "a.tar")) == ["caf\\xe9.png"]


def test_the_archive_is_found_by_the_slug(tmp_path: Path, packed: Pack, fake: Dataset) -> None:
    path = packed(tmp_path / "fake-captchas.tgz", {"x.png": b"x"})
    packed(tmp_path / "other.zip", {"x.png": b"x"})
    assert find_archive(fake, tmp_path) == path


def test_a_missing_archive_says_where_and_what_else(tmp_path: Path, fake: Dataset) -> None:
    with pytest.raises(InputError) as caught:
        find_archive(fake, tmp_path)
    message = str(caught.value)
    for place in ("fake-captchas.zip", "fake-captchas.tar.gz", "someone/fake-captchas", "kaggle", "standin"):
        assert place in message
    assert "\n" not in message


def test_two_archives_of_one_dataset_are_refused(tmp_path: Path, packed: Pack, fake: Dataset) -> None:
    packed(tmp_path / "fake-captchas.zip", {"x.png": b"x"})
    packed(tmp_path / "fake-captchas", {"x.png": b"x"})
    with pytest.raises(InputError, match=r"fake-captchas\.zip and .*fake-captchas: both .* keep one"):
        find_archive(fake, tmp_path)
