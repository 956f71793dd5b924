"""The images and label files of a folder or archive."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

from captchabench.errors import InputError, visible
from captchabench.labels.parquet import PARQUET, ParquetImages
from captchabench.sources.archives import SUFFIXES, Archive, Folder, Member, TarArchive, ZipArchive

_ARCHIVES = (*SUFFIXES, ".7z", ".rar")
LABEL_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".json", ".jsonl"})
# Folders of thumbnails and of deleted files, as network storage and Windows make them. Hidden ones are skipped already.
_JUNK = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN"})


class _WithLabelFiles(Archive):
    """An archive that lists its label files, Parquet files and archives, too.

    undecoded: the images whose names are not UTF-8. Their paths have escapes in place of some symbols.
    """

    def __init__(self, path: Path) -> None:
        self.label_files: list[Member] = []
        self.parquet_files: list[str] = []
        self.archives: list[str] = []
        self.undecoded: list[str] = []
        super().__init__(path)

    def _add(self, name: str, size: int) -> None:
        position, images, others = self._files, len(self.members), self.skipped["not_an_image_name"]
        super()._add(name, size)
        path = visible(name.replace("\\", "/")).removeprefix("./")
        if len(self.members) > images and _JUNK.intersection(path.split("/")):
            self.members.pop()
            self.skipped["hidden"] += 1
        elif len(self.members) > images and not _is_utf8(name):
            self.undecoded.append(path)
        suffix = posixpath.splitext(path)[1].lower()
        if self.skipped["not_an_image_name"] > others and path.lower().endswith(_ARCHIVES):
            self.archives.append(path)
        if self.skipped["not_an_image_name"] > others and suffix in LABEL_SUFFIXES | {PARQUET}:
            self.skipped["not_an_image_name"] = others
            if suffix == PARQUET:
                self.parquet_files.append(path)
            else:
                self.label_files.append(Member(path, position))

    def label_contents(self) -> Iterator[tuple[str, bytes]]:
        """The path and the bytes of each label file."""
        for entry in self.read(self.label_files):
            yield entry.path, entry.encoded


class LabelledZip(_WithLabelFiles, ZipArchive):
    """A zip archive with label files."""


class LabelledTar(_WithLabelFiles, TarArchive):
    """A tar archive with label files."""


class LabelledFolder(_WithLabelFiles, Folder):
    """A folder with label files."""


Packed = LabelledZip | LabelledTar | LabelledFolder
Images = Packed | ParquetImages


def open_images(path: Path) -> Images:
    """List and check the images at `path`. Raises InputError if there are none, or if they cannot be read."""
    try:
        images = _open(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    if isinstance(images, _WithLabelFiles) and not images.members and images.parquet_files:
        if not isinstance(images, LabelledFolder):
            raise InputError(f"{path}: holds Parquet files ({images.parquet_files[0]}); unpack it and give the folder")
        images = ParquetImages(path, [path / name for name in images.parquet_files])
    if not images.members:
        if isinstance(images, _WithLabelFiles) and images.archives:
            inner = visible(images.archives[0], 100)
            raise InputError(f"{path}: holds no images but '{inner}'; take that out and give it alone")
        raise InputError(f"{path}: holds no images; expected files such as name.png at any depth")
    return images


def _open(path: Path) -> Images:
    if path.is_dir():
        return LabelledFolder(path)
    name = path.name.lower()
    if name.endswith(PARQUET):
        return ParquetImages(path, [path])
    if name.endswith(".zip"):
        return LabelledZip(path)
    if name.endswith(SUFFIXES):
        if not path.name.endswith(SUFFIXES):
            raise InputError(f"{path}: rename it to end in lower case, such as .tar.gz")
        return LabelledTar(path)
    path.stat()
    raise InputError(f"{path}: is no set of images; give a folder, {', '.join(SUFFIXES)} or {PARQUET}")


def _is_utf8(name: str) -> bool:
    """Whether all bytes of a file's name were UTF-8. Others became lone surrogates when it was listed."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
