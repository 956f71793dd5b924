"""The declaration of a dataset."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from captchabench.alphabet import Alphabet

if TYPE_CHECKING:
    from captchabench.datasets.drawing.glyphs import Face

# Read a text, or name the class of each tile of a grid.
Task = Literal["text", "grid"]
ROWS = 3  # of a grid, which has as many columns
TILES = ROWS * ROWS


def stem_of(path: str) -> str:
    """The file name in `path`, without its last suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def whole_stem(stem: str) -> str:
    """The label rule of most datasets: the whole stem is the label."""
    return stem


@dataclass(frozen=True)
class Drawing:
    """One stand-in. label: the text, or a tile's class. encoded: the file's bytes. suffix: "png" or "jpg"."""

    label: str
    encoded: bytes
    suffix: str


@dataclass(frozen=True)
class Dataset:
    """A labelled set of images, as published.

    key, handle: the name here and on Kaggle. licence: as its page states it. images: the published number.
    min_length, max_length: of a label, in symbols. version: raised whenever labels, rules or splits change, since
    results of two versions are not comparable. label_of: maps the raw label, see `raw_label`, to the label. corrupt:
    the raw labels of files that are damaged as published. draw: draws one stand-in in the look of the dataset; equal
    generators give equal bytes. faces: the fonts of the stand-ins; each image, or each letter, uses one of them, all
    equally often.

    If the task is `grid`, the images are tiles, each in a folder named after its class, and a label has nine symbols,
    one per tile. `class_names` are the classes of the stand-ins; those of an archive are taken from its folders. If the
    handle is empty, the archive is named after the key.
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

    def raw_label(self, path: str) -> str:
        """The unchecked label in the path of an image: its stem, or the folder of a tile."""
        return stem_of(path) if self.task == "text" else posixpath.basename(posixpath.dirname(path))

    def path_of(self, index: int, drawing: Drawing) -> str:
        """The path that the stand-in with this index would have in an archive."""
        if self.task == "text":
            return f"{index:06d}/{drawing.label}.{drawing.suffix}"
        return f"{drawing.label}/{index:06d}.{drawing.suffix}"
