"""Stand-ins: images drawn in a dataset's look, on all cores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from captchabench.datasets.base import Dataset
from captchabench.pool import ordered
from captchabench.samples.raw import Entry

_CHUNK = 128


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


class Drawn:
    """`images` stand-ins of `dataset`; the i-th depends on the seed, the dataset's key and i alone."""

    def __init__(self, dataset: Dataset, seed: int, images: int, workers: int | None = None) -> None:
        self.total = self.available = images
        self.skipped: Mapping[str, int] = {}
        self._draw = _Draw(dataset, seed)
        self._workers = workers

    def entries(self) -> Iterator[Entry]:
        """The drawings, named after their index, so that two of the same label can stand side by side."""
        starts = range(0, self.total, _CHUNK)
        chunks = [range(start, min(start + _CHUNK, self.total)) for start in starts]
        for drawn in ordered(self._draw, chunks, self._workers):
            yield from drawn
