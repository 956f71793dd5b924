"""Where a dataset's images come from, behind one interface: stand-ins, an archive, or Kaggle."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from captchabench.config import DataParams
from captchabench.datasets.base import Dataset, stem_of


@dataclass(frozen=True)
class Entry:
    """One image as found: its path within the source ("/" between folders) and its bytes."""

    path: str
    encoded: bytes

    @property
    def stem(self) -> str:
        """The file's name without folders and without its last suffix."""
        return stem_of(self.path)


class Source(Protocol):
    """Images to ingest.

    total: how many `entries` gives. available: how many there are, before the cut to a number of images.
    skipped: what was found and is no image by its name, counted by reason.
    """

    total: int
    available: int
    skipped: Mapping[str, int]

    def entries(self) -> Iterator[Entry]:
        """The images, in an order that depends on nothing but the source."""
        ...


def open_source(dataset: Dataset, params: DataParams, images: int | Literal["all"]) -> Source:
    """The source that `params.source` names, cut to `images`.

    A cut takes the files whose names hash lowest with `params.seed`; a source with fewer gives all it has.
    Raises InputError where there is nothing to read, or what is there cannot be trusted.
    """
    # Imported where needed: the drawers bring fonts, the archives a row of decompressors.
    if params.source == "standin":
        from captchabench.data.standin import Drawn

        return Drawn(dataset, params.seed, dataset.images if images == "all" else images)
    from captchabench.data.archives import find_archive, open_archive
    from captchabench.data.kaggle import download
    from captchabench.data.selection import Selected

    downloads = Path(params.downloads)
    path = download(dataset, downloads) if params.source == "kaggle" else find_archive(dataset, downloads)
    return Selected(open_archive(path), images, params.seed)
