"""What a dataset declares about itself."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from captchabench.alphabet import Alphabet
from captchabench.datasets.drawing.glyphs import Face


def whole_stem(stem: str) -> str:
    """The label rule of most datasets: the file's stem is the label."""
    return stem


@dataclass(frozen=True)
class Drawing:
    """One drawn stand-in: its label, the encoded image, and the suffix such files have ("png", "jpg")."""

    label: str
    encoded: bytes
    suffix: str


@dataclass(frozen=True)
class Dataset:
    """A labelled set of images, as published.

    `version` is raised whenever labels, rules or splits change: results of two versions are not
    comparable. `draw` makes one stand-in in the dataset's look from a random generator; equal generators
    give equal bytes. `faces` are the fonts that it picks from, one an image and each as often as the others.
    """

    key: str
    handle: str
    kaggle_version: int
    licence: str
    images: int
    alphabet: Alphabet
    min_length: int
    max_length: int
    draw: Callable[[np.random.Generator], Drawing]
    version: int = 1
    label_of: Callable[[str], str] = whole_stem
    corrupt: frozenset[str] = frozenset()
    faces: tuple[Face, ...] = ()

    @property
    def slug(self) -> str:
        """The last part of the Kaggle handle, which names its archive."""
        return self.handle.split("/")[-1]
