"""The image files to read: paths given on the command line, and the images in given folders."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from captchabench.errors import InputError
from captchabench.sources.archives import IMAGE_SUFFIXES

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class ImageFile:
    """One image to read. content: its bytes if they come from standard input.

    relative_path: relative to the parent of the argument that contained the image. It never has `..` and is never
    absolute, so it is safe to use below an output folder.
    """

    path: Path
    relative_path: PurePath
    content: bytes | None = None


@dataclass
class ImageFiles:
    """The images given by `arguments`: files, and folders searched recursively in name order.

    Folders are listed lazily, so memory does not grow with the number of images. skipped: the number of entries in
    folders that are hidden or do not have the suffix of an image. unread: folders that could not be opened, with the
    reason.
    """

    arguments: Sequence[Path]

    def __post_init__(self) -> None:
        self.skipped = 0
        self.unread: list[tuple[Path, str]] = []
        for path in self.arguments:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder")

    def __iter__(self) -> Iterator[ImageFile]:
        self.skipped = 0
        self.unread = []
        for path in self.arguments:
            relative_path = PurePath(path.absolute().name or "root")
            if path.is_dir():
                yield from self._walk(path, relative_path)
            else:
                yield ImageFile(path, relative_path)

    def _walk(self, folder: Path, relative_path: PurePath) -> Iterator[ImageFile]:
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            self.unread.append((folder, error.strerror or str(error)))
            return
        for entry in entries:
            entry_path = relative_path / entry.name
            if entry.name.startswith("."):
                self.skipped += 1
            elif entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), entry_path)
            elif entry.is_dir() or Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
                self.skipped += 1
            else:
                yield ImageFile(Path(entry.path), entry_path)
