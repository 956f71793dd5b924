"""Archives of every kind: intact, hostile and damaged."""

import gzip
import io
import os
import re
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError
from captchabench.sources import archives
from captchabench.sources.archives import find_archive, open_archive

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
    assert "; " in message  # what is wrong; what to do
    return message


@pytest.mark.parametrize("name", KINDS)
def test_images_are_read_at_any_depth_and_the_rest_is_counted(tmp_path: Path, packed: Pack, name: str) -> None:
    archive = open_archive(packed(tmp_path / name, FILES))
    entries = list(archive.read(archive.members))
    assert {e.path: e.encoded for e in entries} == {"a1.jpg": b"one", "deep/er/b2.PNG": b"two"}
    assert {e.stem for e in entries} == {"a1", "b2"}
    assert archive.skipped == {"hidden": 2, "not_an_image_name": 2}


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_members_are_in_the_order_of_their_names(tmp_path: Path, packed: Pack, name: str) -> None:
    archive = open_archive(packed(tmp_path / name, {f"{n}.png": b"x" for n in (3, 1, 2)}))
    assert [e.path for e in archive.read(archive.members)] == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize("name", KINDS)
def test_members_can_be_read_selectively(tmp_path: Path, packed: Pack, name: str) -> None:
    archive = open_archive(packed(tmp_path / name, {f"{n}.png": b"%d" % n for n in range(9)}))
    chosen = [m for m in archive.members if m.path in ("2.png", "7.png")]
    assert {e.path: e.encoded for e in archive.read(chosen)} == {"2.png": b"2", "7.png": b"7"}


def test_members_of_the_same_name_in_a_zip_are_both_read(tmp_path: Path) -> None:
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
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
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
    damaged[-6] ^= 255  # in the checksum, after all files
    path.write_bytes(bytes(damaged))
    assert "no tar archive" in refusal(path)


def test_an_encrypted_member_is_refused(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.zip", {"x.png": b"secret"})
    encrypted = bytearray(path.read_bytes())
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(bytes(encrypted))
    assert "'x.png', which is encrypted" in refusal(path)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    "name", ["../x.png", "in/../../x.png", "/etc/x.png", "..\\x.png", "C:\\x.png", "c:x.png", "../notes.txt"]
)
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, packed: Pack, kind: str, name: str) -> None:
    path = packed(tmp_path / kind, {"fine.png": b"x", name: b"x"})
    assert "leads out of" in refusal(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_special_files_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
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


def test_a_pipe_in_a_folder_is_refused_without_reading_it(tmp_path: Path, packed: Pack) -> None:
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
def test_a_total_size_past_the_limit_is_refused(
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


def test_a_member_with_a_false_size_is_refused(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.zip", {"x.png": bytes(1 << 20)})
    changed = bytearray(path.read_bytes())
    entry = changed.index(b"PK\x01\x02")
    changed[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(bytes(changed))
    assert "'x.png' is damaged" in refusal(path)


def test_bytes_of_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("caf\udce9.png")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert list(contents(tmp_path / "a.tar")) == ["caf\\xe9.png"]


def test_the_archive_is_found_by_the_slug(tmp_path: Path, packed: Pack, fake: Dataset) -> None:
    path = packed(tmp_path / "fake-captchas.tgz", {"x.png": b"x"})
    packed(tmp_path / "other.zip", {"x.png": b"x"})
    assert find_archive(fake, tmp_path) == path


def test_a_missing_archive_names_the_paths_and_the_alternatives(tmp_path: Path, fake: Dataset) -> None:
    with pytest.raises(InputError) as caught:
        find_archive(fake, tmp_path)
    message = str(caught.value)
    for part in ("fake-captchas.zip", "fake-captchas.tar.gz", "someone/fake-captchas", "kaggle", "standin"):
        assert part in message
    assert "\n" not in message


def test_two_archives_of_one_dataset_are_refused(tmp_path: Path, packed: Pack, fake: Dataset) -> None:
    packed(tmp_path / "fake-captchas.zip", {"x.png": b"x"})
    packed(tmp_path / "fake-captchas", {"x.png": b"x"})
    with pytest.raises(InputError, match=r"fake-captchas\.zip and .*fake-captchas: both .* keep one"):
        find_archive(fake, tmp_path)


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    """Write a zip with any names, also those that zipfile would change; return its bytes."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, content)
    return bytearray(path.read_bytes())


def write_tar(path: Path, name: str, content: bytes = b"x", style: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(path, "w", format=style) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


# The name in the archive and the name shown. There is none with NUL, which ends a name in a zip.
ODD_NAMES = [
    ("a\x1b[31mb.png", "a\\x1b[31mb.png"),
    ("a\nb.png", "a\\x0ab.png"),
    ("AB\u202e21.png", "AB\\u202e21.png"),
    ("A\u200bB.png", "A\\u200bB.png"),
    ("e\u0301.png", "e\u0301.png"),
    ("\u0410\u0412.png", "\u0410\u0412.png"),
    ("y" * 1000 + ".png", "y" * 1000 + ".png"),
]


@pytest.mark.parametrize(("name", "shown"), ODD_NAMES)
@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a"])
def test_control_characters_in_names_are_escaped(tmp_path: Path, kind: str, name: str, shown: str) -> None:
    if kind == "a.zip":
        write_zip(tmp_path / kind, {name: b"x"})
    elif kind == "a.tar":
        write_tar(tmp_path / kind, name)
    else:
        (tmp_path / kind).mkdir()
        if len(name) > 255:
            pytest.skip("too long for the name of a file")
        (tmp_path / kind / name).write_bytes(b"x")
    assert contents(tmp_path / kind) == {shown: b"x"}


def test_a_refusal_escapes_and_shortens_names(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"../" + "y" * 3000 + "\x1b[2J\r\n.png": b"x"})
    message = refusal(tmp_path / "a.zip")
    assert message.isprintable()
    assert len(message) < 500


def test_names_of_other_encodings_are_read(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "a.zip", {"caf\u00e9.png": b"x"})
    latin = raw.replace("caf\u00e9".encode(), b"caf\x82x")
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        latin[latin.index(mark) + flags + 1] &= ~8  # clears the flag for UTF-8, so the name is in code page 437
    (tmp_path / "a.zip").write_bytes(latin)
    assert contents(tmp_path / "a.zip") == {"caf\u00e9x.png": b"x"}


def test_names_that_differ_in_case_or_composition_are_different(tmp_path: Path, packed: Pack) -> None:
    names = {"ab.png": b"1", "AB.png": b"2", "\u00e9.png": b"3", "e\u0301.png": b"4", "in/ab.png": b"5"}
    for kind in KINDS:
        assert contents(packed(tmp_path / kind, names)) == names


def test_members_of_the_same_name_in_a_tar_are_both_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for content in (b"1", b"2"):
            info = tarfile.TarInfo("x.png")
            info.size = 1
            archive.addfile(info, io.BytesIO(content))
    opened = open_archive(tmp_path / "a.tar")
    assert [e.encoded for e in opened.read(opened.members)] == [b"1", b"2"]


@pytest.mark.parametrize("name", ["//server/share/x.png", "\\\\server\\share\\x.png", "\\x.png", "./../x.png"])
@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_other_paths_that_lead_outside_are_refused(tmp_path: Path, packed: Pack, kind: str, name: str) -> None:
    assert "leads out of" in refusal(packed(tmp_path / kind, {name: b"x"}))


def test_a_member_without_a_name_is_no_image(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"": b"x", "fine.png": b"y"})
    archive = open_archive(tmp_path / "a.zip")
    assert [e.encoded for e in archive.read(archive.members)] == [b"y"]
    assert archive.skipped == {"not_an_image_name": 1}


def test_a_nested_archive_is_no_image(tmp_path: Path, packed: Pack) -> None:
    inner = packed(tmp_path / "inner.zip", {"x.png": b"x"}).read_bytes()
    archive = open_archive(packed(tmp_path / "a.zip", {"inner.zip": inner, "fine.png": b"y"}))
    assert [m.path for m in archive.members] == ["fine.png"]
    assert archive.skipped == {"not_an_image_name": 1}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_cannot_be_limited_is_refused(tmp_path: Path, method: int) -> None:
    write_zip(tmp_path / "a.zip", {"x.png": b"x"}, method)
    assert f"packed by method {method}; zip it again" in refusal(tmp_path / "a.zip")


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "a.zip", {"x.png": os.urandom(500), "y.png": os.urandom(500)})
    first, second = raw.index(b"PK\1\2"), raw.rindex(b"PK\1\2")
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    (tmp_path / "a.zip").write_bytes(raw)
    assert "'x.png' and 'y.png', which share their bytes" in refusal(tmp_path / "a.zip")


def test_a_false_size_takes_no_memory(tmp_path: Path) -> None:
    raw = write_zip(tmp_path / "a.zip", {"x.png": bytes(64 << 20)})
    entry = raw.index(b"PK\1\2")
    raw[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(raw)
    tracemalloc.start()
    try:
        assert "'x.png' is damaged" in refusal(tmp_path / "a.zip")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def damaged_zip(raw: bytearray, damage: str) -> bytes:
    local, entry, end = raw.index(b"PK\3\4"), raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    if damage == "another name that is not UTF-8":
        raw[local + 7] |= 8
        raw[local + 30] = 0xFF
    elif damage == "an unknown method":
        raw[entry + 10] = 99
    elif damage == "patched data":
        raw[entry + 8] |= 0x20
    elif damage == "strong encryption":
        raw[entry + 8] |= 0x40
    elif damage == "an offset past the end":
        raw[entry + 42 : entry + 46] = b"\xfe\xff\xff\x7f"
    elif damage == "an offset of 64 bits":  # in a field of ZIP64
        raw[entry + 42 : entry + 46] = b"\xff\xff\xff\xff"
        raw[entry + 30 : entry + 32] = b"\x0c\0"
        extra = b"\1\0\x08\0" + b"\xff" * 8
        raw[entry + 46 + 5 : entry + 46 + 5] = extra
        end += len(extra)
        raw[end + 12 : end + 16] = (int.from_bytes(raw[end + 12 : end + 16], "little") + 12).to_bytes(4, "little")
    elif damage == "ZIP64's size":
        raw[entry + 24 : entry + 28] = b"\xff\xff\xff\xff"
    return bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [
        *("another name that is not UTF-8", "an unknown method", "patched data", "strong encryption"),
        *("an offset past the end", "an offset of 64 bits", "ZIP64's size"),
    ],
)
def test_an_inconsistent_zip_directory_is_one_line(tmp_path: Path, damage: str) -> None:
    raw = write_zip(tmp_path / "a.zip", {"x.png": b"x" * 50})
    (tmp_path / "a.zip").write_bytes(damaged_zip(raw, damage))
    assert refusal(tmp_path / "a.zip").isprintable()


def header(kind: bytes, size: int, name: bytes = b"x.png") -> bytes:
    """A tar header with a correct checksum."""
    raw = bytearray(512)
    raw[: len(name)] = name
    raw[100:108], raw[124:136] = b"0000644\0", b"%011o\0" % size
    raw[156:157], raw[257:265] = kind, b"ustar\x0000"
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize(
    "start",
    [
        header(b"x", 5100) + (b"9" * 5000 + b" a=1\n").ljust(5120, b"\0"),
        header(b"x", 11) + b"11 size=-1\n".ljust(512, b"\0"),
        header(b"x", 42) + b"22 GNU.sparse.major=1\n20 GNU.sparse.map=x\n".ljust(512, b"\0"),
        header(b"x", 1 << 30),
        header(b"L", 1 << 30),
        header(b"S", 100),
        header(b"0", 1 << 30),
    ],
    ids=["huge number", "negative size", "sparse map", "long header", "long name", "sparse", "large file"],
)
@pytest.mark.parametrize("kind", ["a.tar", "a.tgz"])
def test_false_tar_headers_are_one_line(tmp_path: Path, kind: str, start: bytes) -> None:
    raw = start + header(b"0", 1) + b"x".ljust(512, b"\0") + bytes(10240)
    (tmp_path / kind).write_bytes(raw if kind == "a.tar" else gzip.compress(raw))
    tracemalloc.start()
    try:
        assert refusal(tmp_path / kind).isprintable()
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "a.tar", {f"{n}.png": b"x" * 900 for n in range(3)} | {"last.png": bytes(3 << 20)})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"1.png") + 150] ^= 0xFF  # in the checksum
    path.write_bytes(raw)
    assert "a damaged header" in refusal(path)


def test_data_after_the_end_is_refused(tmp_path: Path, packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.tar", {"x.png": b"x"})
    whole = path.read_bytes()
    path.write_bytes(whole + b"more" + bytes(3 << 20))
    assert "something after its end" in refusal(path)
    # So are many zeros, since gzip packs a thousand of them into one byte.
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    path.write_bytes(whole + bytes(3 << 20))
    assert "something after its end" in refusal(path)


def test_empty_entries_count_towards_the_ratio(tmp_path: Path, packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 1 << 16)
    path = packed(tmp_path / "a.tar.gz", {f"{n:04d}.txt": b"" for n in range(2000)} | {"x.png": b"x"})
    monkeypatch.setattr(archives, "MAX_RATIO", 10)
    assert "10 times its size" in refusal(path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a", {"in/x.png": b"x", "y.png": b"y"})
    scan = os.scandir

    def denied(folder: str) -> object:
        if str(folder).endswith("in"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", denied)
    assert "'in' cannot be read (Permission denied)" in refusal(path)


@pytest.mark.parametrize("downloads", ["a\0b", "\x1b[2J", "x" * 5000])
def test_an_impossible_folder_name_is_one_line(fake: Dataset, downloads: str) -> None:
    with pytest.raises(InputError) as caught:
        find_archive(fake, Path(downloads))
    assert str(caught.value).isprintable()
    assert "data.downloads" in str(caught.value) or "looked for" in str(caught.value)


def test_an_archive_under_another_name_is_named(fake: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looked for") as caught:
        find_archive(fake, tmp_path)
    assert "rename" not in str(caught.value)
    for name in ("archive.zip", "other.ZIP", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(
        InputError, match=r"the folder holds archive\.zip, other\.ZIP: .* rename it to fake-captchas\.zip; put"
    ):
        find_archive(fake, tmp_path)
    (tmp_path / "fake-captchas (1).zip").touch()
    with pytest.raises(InputError, match=r"the folder holds fake-captchas \(1\)\.zip: if this is it, rename"):
        find_archive(fake, tmp_path)
