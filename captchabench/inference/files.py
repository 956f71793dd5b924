"""Image files to read: those named, and those in the folders named."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from captchabench.errors import InputError
from captchabench.sources.archives import IMAGE_SUFFIXES

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class ImageFile:
    """One file to read. content: its bytes, where it is not a file.

    place: the path from the argument on that led here; unlike `path`, it leads out of nowhere.
    """

    path: Path
    place: PurePath
    content: bytes | None = None


@dataclass
class ImageFiles:
    """The images that `arguments` name: files, folders of any depth, in the order of their names.

    A folder's images are found while they are taken, so that its size does not matter. skipped: files in folders that
    are hidden or not called like an image; unread: folders that could not be opened, with the reason.
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
            place = PurePath(path.absolute().name or "root")
            if path.is_dir():
                yield from self._inside(path, place)
            else:
                yield ImageFile(path, place)

    def _inside(self, folder: Path, place: PurePath) -> Iterator[ImageFile]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.unread.append((folder, error.strerror or str(error)))
            return
        for entry in entries:
            inside = place / entry.name
            if entry.name.startswith("."):
                self.skipped += 1
            elif entry.is_dir(follow_symlinks=False):
                yield from self._inside(Path(entry.path), inside)
            elif entry.is_dir() or Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
                self.skipped += 1
            else:
                yield ImageFile(Path(entry.path), inside)
