"""The source of a dataset's images, behind one interface: drawn stand-ins, an archive or Kaggle."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Literal
from zlib import crc32

import numpy as np

from captchabench.config import DataParams
from captchabench.datasets.base import Dataset
from captchabench.pool import ordered
from captchabench.samples.raw import Entry, Source
from captchabench.sources.archives import Archive, find_archive, open_archive
from captchabench.sources.kaggle import download

_IMAGES_AT_ONCE = 128


def open_source(dataset: Dataset, params: DataParams, images: int | Literal["all"]) -> Source:
    """The source that `params.source` names, limited to `images`.

    Of an archive, the files whose names have the lowest hashes with `params.seed` are taken, or all if there are fewer.
    Raises InputError if there is no source, or if it is refused.
    """
    if params.source == "standin":
        return StandinSource(dataset, params.seed, dataset.images if images == "all" else images)
    downloads = Path(params.downloads)
    path = download(dataset, downloads) if params.source == "kaggle" else find_archive(dataset, downloads)
    return ArchiveSource(open_archive(path), images, params.seed)


def rank(path: str, position: int, seed: int) -> tuple[bytes, str, int]:
    """A key that sorts images by a hash of their files' names, so that the first ones are a random choice.

    path, position: as in `archives.Member`.
    """
    name = f"{seed}/{PurePosixPath(path).name}".encode()
    return blake2b(name, digest_size=16).digest(), path, position


class StandinSource:
    """`images` stand-ins of `dataset`, drawn on all cores.

    The i-th image depends only on the seed, the dataset's key and i.
    """

    def __init__(self, dataset: Dataset, seed: int, images: int, workers: int | None = None) -> None:
        self.total = self.available = images
        self.skipped: Mapping[str, int] = {}
        self._draw = _Draw(dataset, seed)
        self._workers = workers

    def entries(self) -> Iterator[Entry]:
        """The drawings. Their paths contain the index, so that two with the same label have different paths."""
        starts = range(0, self.total, _IMAGES_AT_ONCE)
        chunks = [range(start, min(start + _IMAGES_AT_ONCE, self.total)) for start in starts]
        for entries in ordered(self._draw, chunks, self._workers):
            yield from entries


@dataclass(frozen=True)
class _Draw:
    dataset: Dataset
    seed: int

    def __call__(self, indices: range) -> list[Entry]:
        key = crc32(self.dataset.key.encode())
        entries = []
        for index in indices:
            drawing = self.dataset.draw(np.random.default_rng([self.seed, key, index]))
            entries.append(Entry(self.dataset.path_of(index, drawing), drawing.encoded))
        return entries


class ArchiveSource:
    """`images` files of an archive: those whose names have the lowest hashes with `seed`.

    The choice depends on file names, not on folders or order. Moving files changes nothing, and adding files changes
    little.
    """

    def __init__(self, archive: Archive, images: int | Literal["all"], seed: int) -> None:
        self._archive = archive
        self._members = archive.members
        self.available = len(archive.members)
        self.skipped: Mapping[str, int] = dict(archive.skipped)
        if images != "all" and images < self.available:
            kept = set(sorted(archive.members, key=lambda member: rank(member.path, member.position, seed))[:images])
            self._members = [member for member in archive.members if member in kept]
        self.total = len(self._members)

    def entries(self) -> Iterator[Entry]:
        """The chosen images, in the archive's order."""
        return self._archive.read(self._members)
