"""What a dataset declares about itself."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from captchabench.alphabet import Alphabet

if TYPE_CHECKING:
    from captchabench.datasets.drawing.glyphs import Face

# A text to read, or a grid of tiles to name.
Task = Literal["text", "grid"]
ROWS = 3  # of a grid, and as many columns
TILES = ROWS * ROWS


def stem_of(path: str) -> str:
    """A file's name without folders and without its last suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def whole_stem(stem: str) -> str:
    """The label rule of most datasets: the file's stem is the label."""
    return stem


@dataclass(frozen=True)
class Drawing:
    """One drawn stand-in: its label (the text, or a tile's class), the encoded image, and the suffix of such files
    ("png", "jpg")."""

    label: str
    encoded: bytes
    suffix: str


@dataclass(frozen=True)
class Dataset:
    """A labelled set of images, as published.

    `version` is raised whenever labels, rules or splits change: results of two versions are not
    comparable. `draw` makes one stand-in in the dataset's look from a random generator; equal generators
    give equal bytes. `faces` are the fonts that it picks from, one an image and each as often as the others.

    Of a `grid`, images are tiles, each in a folder named after its class. `class_names` are those of the stand-in; the
    classes of other tiles are found with them. A label is nine symbols, one a class. Where there is no Kaggle handle,
    the key names the archive.
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
    faces: "tuple[Face, ...]" = ()
    task: Task = "text"
    class_names: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The last part of the Kaggle handle, which names its archive."""
        return self.handle.split("/")[-1] or self.key

    def found_label(self, path: str) -> str:
        """What the path of an image says of its label, as found: its stem, or of a tile the folder that it lies in."""
        return stem_of(path) if self.task == "text" else posixpath.basename(posixpath.dirname(path))

    def path_of(self, index: int, drawing: Drawing) -> str:
        """Where the stand-in with this index would lie in an archive."""
        if self.task == "text":
            return f"{index:06d}/{drawing.label}.{drawing.suffix}"
        return f"{drawing.label}/{index:06d}.{drawing.suffix}"
