"""Images read from untrusted archives and folders, without unpacking to disk.

The whole archive is refused if a member is encrypted, is a link, leads out of the archive's folder, shares its bytes
with another, or expands past a limit. An intact download contains no such member.
"""

import gzip
import os
import posixpath
import re
import stat
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self, cast

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError, visible
from captchabench.samples.raw import Entry

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"}
    | {".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")

# Any image that normalisation accepts is far smaller. The largest dataset has 0.5 GB in total.
MAX_MEMBER_BYTES = 32 << 20
MAX_TOTAL_BYTES = 32 << 30
# Images are compressed already, so a high ratio means a bomb. Archives that expand to less than RATIO_FREE_BYTES are
# exempt: blank bitmaps compress well and are harmless.
MAX_RATIO = 100
RATIO_FREE_BYTES = 256 << 20
# The memory that each entry takes, even an empty file. In a tar its header takes as much.
ENTRY_BYTES = 512
# Extended headers of a tar, which hold long names, are read into memory completely.
MAX_HEADER_BYTES = 64 << 10

# zipfile expands other methods without a limit, and bzip2 can expand one byte to a million.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER_BYTES = 30
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MAX_NAMED = 3  # archives in a message
_MAX_SHOWN = 200  # characters of a name in a message
_DOWNLOAD_AGAIN = "download it again"
_ZIP_AGAIN = "zip it again with deflate"


@dataclass(frozen=True)
class Member:
    """An image file of an archive. position: its index among all files, since two files can have the same path."""

    path: str
    position: int


class Archive(ABC):
    """The archive or folder at `path`. members: its images. skipped: the number of other files, by reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: list[Member] = []
        self.skipped: Counter[str] = Counter()
        self._expanded = 0
        self._compressed = 0
        self._files = 0

    @abstractmethod
    def read(self, members: Collection[Member]) -> Iterator[Entry]:
        """The given images. Raises InputError if the archive is damaged."""

    def _add(self, name: str, size: int) -> None:
        """Check a file of `size` bytes, expanded; add it to `members` or count it in `skipped`."""
        path = _clean(name)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", path):
            raise self._refusal(f"holds {_quoted(path)}, which leads out of the archive's folder")
        if size > MAX_MEMBER_BYTES:
            raise self._refusal(f"holds {_quoted(path)}, which expands past {MAX_MEMBER_BYTES >> 20} MiB")
        if size < 0:
            raise self._refusal(f"holds {_quoted(path)}, which has a size of {size} bytes", _DOWNLOAD_AGAIN)
        self._expand(size)
        if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
            self.skipped["hidden"] += 1
        elif posixpath.splitext(path)[1].lower() not in IMAGE_SUFFIXES:
            self.skipped["not_an_image_name"] += 1
        else:
            self.members.append(Member(path, self._files))
        self._files += 1

    def _expand(self, size: int) -> None:
        """Count an entry of `size` bytes, expanded, against the limits."""
        self._expanded += size + ENTRY_BYTES
        if self._expanded > MAX_TOTAL_BYTES:
            raise self._refusal(f"expands past {MAX_TOTAL_BYTES >> 30} GiB")
        if self._expanded > max(RATIO_FREE_BYTES, MAX_RATIO * self._compressed):
            raise self._refusal(f"expands to more than {MAX_RATIO} times its size")

    def _refusal(self, problem: str, fix: str = "take it out, or use another copy") -> InputError:
        return InputError(f"{self.path}: {problem}; {fix}")


class ZipArchive(Archive):
    """A .zip file. Its members are listed and read in the order of their names."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._compressed = path.stat().st_size
        self._infos: list[zipfile.ZipInfo] = []
        with self._open() as archive:
            self._check_overlaps(archive.infolist())
            for info in archive.infolist():
                name = _quoted(_clean(info.filename))
                # Not info.is_dir(): in Python 3.11 it fails on an empty name.
                if info.filename.endswith("/"):
                    self._expand(0)
                    continue
                if info.flag_bits & 0x1:
                    raise self._refusal(
                        f"holds {name}, which is encrypted", f"unpack it into {self.path.with_suffix('')}"
                    )
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise self._refusal(f"holds {name}, which is a link")
                if info.compress_type not in _ZIP_METHODS:
                    raise self._refusal(f"holds {name}, which is packed by method {info.compress_type}", _ZIP_AGAIN)
                self._infos.append(info)
                self._add(info.filename, info.file_size)
        self.members.sort(key=lambda member: (member.path, member.position))

    def read(self, members: Collection[Member]) -> Iterator[Entry]:
        with self._open() as archive:
            for member in members:
                info, name = self._infos[member.position], _quoted(member.path)
                try:
                    with archive.open(info) as file:
                        encoded = file.read(info.file_size + 1)
                    if len(encoded) != info.file_size:
                        raise EOFError("it is cut off")
                except NotImplementedError as error:
                    raise self._refusal(f"{name} cannot be read ({_why(error)})", _ZIP_AGAIN) from None
                # zipfile and its decompressors raise exceptions of nearly any type on damaged members.
                except Exception as error:
                    raise self._refusal(f"{name} is damaged ({_why(error)})", _DOWNLOAD_AGAIN) from None
                yield Entry(member.path, encoded)

    def _check_overlaps(self, infos: list[zipfile.ZipInfo]) -> None:
        """Refuse members whose bytes overlap: only a zip bomb has them (Fifield, USENIX WOOT 2019)."""
        ordered = sorted(infos, key=lambda info: info.header_offset)
        for one, other in pairwise(ordered):
            if other.header_offset < one.header_offset + _LOCAL_HEADER_BYTES + one.compress_size:
                pair = f"{_quoted(_clean(one.filename))} and {_quoted(_clean(other.filename))}"
                raise self._refusal(f"holds {pair}, which share their bytes")

    @contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = zipfile.ZipFile(self.path)
        except (FileNotFoundError, PermissionError):
            raise
        # zipfile raises exceptions of nearly any type on a damaged directory.
        except Exception as error:
            raise self._refusal(f"is no zip archive, or is cut off ({_why(error)})", _DOWNLOAD_AGAIN) from None
        with archive:
            yield archive


class _Header(tarfile.TarInfo):
    """A tar header, checked for damage. The declared size of an extended header is checked before it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            # tarfile takes a damaged header, except the first, for the end of the archive. A real end is all zeros.
            if any(buf):
                raise ValueError(f"a damaged header: {error}") from None
            raise
        if header.type in _EXTENDED_HEADERS and not 0 <= header.size <= MAX_HEADER_BYTES:
            raise ValueError(f"a header of {header.size} bytes")
        return header


class TarArchive(Archive):
    """A .tar, .tar.gz or .tgz file, in its own order. It is streamed once to list and check it, once to read it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._compressed = path.stat().st_size
        for info, _ in self._stream():
            name = _quoted(_clean(info.name))
            if info.isdir():
                self._expand(0)
                continue
            if info.issym() or info.islnk():
                raise self._refusal(f"holds {name}, which is a link")
            if not info.isfile() or info.issparse():
                raise self._refusal(f"holds {name}, which is not a plain file")
            self._add(info.name, info.size)

    def read(self, members: Collection[Member]) -> Iterator[Entry]:
        chosen = {member.position: member for member in members}
        files = (pair for pair in self._stream() if not pair[0].isdir())
        for position, (info, archive) in enumerate(files):
            if position in chosen:
                try:
                    handle = archive.extractfile(info)
                    assert handle is not None
                    encoded = handle.read()
                except Exception as error:
                    raise self._damaged(error) from None
                yield Entry(chosen[position].path, encoded)

    def _stream(self) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
        try:
            with self._uncompressed() as raw, tarfile.open(fileobj=raw, mode="r|", tarinfo=_Header) as archive:
                for info in archive:
                    yield info, archive
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps every header
                # Read to the end of the file, since gzip's checksum is there.
                rest, padding = cast(IO[bytes], archive.fileobj), 0
                while block := rest.read(1 << 20):
                    padding += len(block)
                    if block.strip(b"\0") or padding > MAX_MEMBER_BYTES:
                        raise self._refusal("holds something after its end", _DOWNLOAD_AGAIN)
        except InputError:
            raise
        # tarfile raises exceptions of nearly any type on damaged headers.
        except Exception as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> InputError:
        return self._refusal(f"is no tar archive, or is cut off ({_why(error)})", _DOWNLOAD_AGAIN)

    @contextmanager
    def _uncompressed(self) -> Iterator[IO[bytes]]:
        with self.path.open("rb") as file:
            if self.path.name.endswith((".gz", ".tgz")):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(IO[bytes], unpacked)
                return
            # tarfile does not notice if the blocks of zeros at the end are missing.
            file.seek(-min(512, self._compressed), os.SEEK_END)
            if not self._compressed or any(file.read()):
                raise self._refusal("is no tar archive, or is cut off", _DOWNLOAD_AGAIN)
            file.seek(0)
            yield file


class Folder(Archive):
    """A folder of files at any depth, in the order of their paths."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        listed: list[tuple[str, Path, int]] = []
        for root, folders, files in os.walk(path, onerror=self._unreadable):
            for name in files + [folder for folder in folders if Path(root, folder).is_symlink()]:
                file = Path(root, name)
                inside = file.relative_to(path).as_posix()
                status = file.lstat()
                if not stat.S_ISREG(status.st_mode):
                    kind = "a link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
                    raise self._refusal(
                        f"holds {_quoted(_clean(inside))}, which is {kind}", "put the file itself there"
                    )
                self._compressed += status.st_size + ENTRY_BYTES
                listed.append((inside, file, status.st_size))
        listed.sort()
        self._paths = [file for _, file, _ in listed]
        for inside, _, size in listed:
            self._add(inside, size)

    def read(self, members: Collection[Member]) -> Iterator[Entry]:
        for member in members:
            try:
                yield Entry(member.path, self._paths[member.position].read_bytes())
            except OSError as error:
                problem = f"{_quoted(member.path)} cannot be read ({error.strerror})"
                raise self._refusal(problem, "check its permissions, and the disk for errors") from None

    def _unreadable(self, error: OSError) -> None:
        """Refuse a folder that cannot be listed: os.walk would skip it silently."""
        inside = _clean(os.path.relpath(error.filename, self.path))
        raise self._refusal(f"{_quoted(inside)} cannot be read ({error.strerror})", "check its permissions")


def archives_of(dataset: Dataset, downloads: Path) -> list[Path]:
    """The archives and folders of `dataset` in `downloads`. Raises InputError if `downloads` cannot be read."""
    try:
        return [path for path in _candidates(dataset, downloads) if path.exists()]
    except (OSError, ValueError) as error:
        raise InputError(f"params.yaml: data.downloads: cannot be read ({_why(error)}); name a folder") from None


def find_archive(dataset: Dataset, downloads: Path) -> Path:
    """The archive or folder of `dataset` in `downloads`. Raises InputError unless there is exactly one."""
    existing = archives_of(dataset, downloads)
    if not existing:
        if dataset.task == "grid":
            fix = "a folder for each class with its images there, or set tiles.source to standin"
        else:
            fix = f"{dataset.handle} from Kaggle there, or set data.source to kaggle or standin"
        paths = visible(", ".join(map(str, _candidates(dataset, downloads))), 5 * _MAX_SHOWN)
        others = other_names(archives_in(downloads), dataset.slug)
        there = f"; the folder holds {others}: if this is it, rename it to {dataset.slug}.zip" if others else ""
        raise InputError(f"no archive of '{dataset.key}': looked for {paths}{there}; put {fix} in params.yaml")
    if len(existing) > 1:
        raise InputError(f"{' and '.join(map(str, existing))}: both hold '{dataset.key}'; keep one")
    return existing[0]


def archives_in(folder: Path) -> list[str]:
    """The names of the archives in `folder`, of datasets or not; empty if it cannot be listed."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES))
    except (OSError, ValueError):
        return []


def other_names(names: Sequence[str], slug: str) -> str:
    """Those of the `names` of archives that can be the archive called `slug` under another name, as one text.

    They are those that begin with it, since browsers append a number to a name that exists; else all.
    """
    alike = [name for name in names if name.lower().startswith(slug.lower())] or names
    more = f" and {len(alike) - _MAX_NAMED} more" if len(alike) > _MAX_NAMED else ""
    return ", ".join(visible(name, _MAX_SHOWN) for name in alike[:_MAX_NAMED]) + more


def open_archive(path: Path) -> Archive:
    """List and check the archive or folder at `path`. Raises InputError if it cannot be read or is refused."""
    kinds: dict[str, Any] = {
        ".zip": ZipArchive,
        ".tar.gz": TarArchive,
        ".tgz": TarArchive,
        ".tar": TarArchive,
    }
    kind = next((kinds[suffix] for suffix in SUFFIXES if path.name.endswith(suffix)), Folder)
    try:
        if (kind is Folder) != path.is_dir():
            problem = "is a folder; remove the suffix" if path.is_dir() else "is a file; add the suffix of its format"
            raise InputError(f"{path}: {problem}")
        archive: Archive = kind(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    if not archive.members:
        raise InputError(f"{path}: holds no images; expected files such as name.png at any depth")
    return archive


def _candidates(dataset: Dataset, downloads: Path) -> list[Path]:
    return [downloads / f"{dataset.slug}{suffix}" for suffix in SUFFIXES] + [downloads / dataset.slug]


def _clean(name: str) -> str:
    """`name` with forward slashes, and with bytes that are no text and unprintable characters escaped."""
    return visible(name.replace("\\", "/")).removeprefix("./")


def _quoted(path: str) -> str:
    return f"'{visible(path, _MAX_SHOWN)}'"


def _why(error: Exception) -> str:
    return visible(str(error), _MAX_SHOWN) or type(error).__name__
