"""Where a dataset's images come from, behind one interface: stand-ins, an archive, or Kaggle."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Literal

from captchabench.config import DataParams
from captchabench.datasets.base import Dataset
from captchabench.samples.raw import Entry, Source
from captchabench.sources.archives import Archive, Member


def open_source(dataset: Dataset, params: DataParams, images: int | Literal["all"]) -> Source:
    """The source that `params.source` names, cut to `images`.

    A cut takes the files whose names hash lowest with `params.seed`; a source with fewer gives all it has.
    Raises InputError where there is nothing to read, or what is there cannot be trusted.
    """
    # Imported where needed: the drawers bring fonts, the archives a row of decompressors.
    if params.source == "standin":
        from captchabench.sources.standin import Drawn

        return Drawn(dataset, params.seed, dataset.images if images == "all" else images)
    from captchabench.sources.archives import find_archive, open_archive
    from captchabench.sources.kaggle import download

    downloads = Path(params.downloads)
    path = download(dataset, downloads) if params.source == "kaggle" else find_archive(dataset, downloads)
    return Selected(open_archive(path), images, params.seed)


class Selected:
    """`images` of an archive: those whose file names hash lowest with `seed`.

    By name and not by place, so that another layout of the same files, or files added, change little.
    """

    def __init__(self, archive: Archive, images: int | Literal["all"], seed: int) -> None:
        self._archive = archive
        self._members = archive.members
        self.available = len(archive.members)
        self.skipped: Mapping[str, int] = dict(archive.skipped)
        if images != "all" and images < self.available:

            def rank(member: Member) -> tuple[bytes, str, int]:
                name = f"{seed}/{PurePosixPath(member.path).name}".encode()
                return blake2b(name, digest_size=16).digest(), member.path, member.position

            kept = set(sorted(archive.members, key=rank)[:images])
            self._members = [member for member in archive.members if member in kept]
        self.total = len(self._members)

    def entries(self) -> Iterator[Entry]:
        """The chosen images, in the archive's order."""
        return self._archive.read(self._members)
