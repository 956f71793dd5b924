"""The declaration of a dataset."""

import posixpath
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from captchabench.alphabet import Alphabet
from captchabench.errors import InputError

if TYPE_CHECKING:
    from captchabench.datasets.drawing.glyphs import Face

# Read a text, or name the class of each tile of a grid.
Task = Literal["text", "grid"]
ROWS = 3  # of a grid, which has as many columns
TILES = ROWS * ROWS
_MAX_NAME = 100  # symbols in the name of a class


def stem_of(path: str) -> str:
    """The file name in `path`, without its last suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def whole_stem(stem: str) -> str:
    """The label rule of most datasets: the whole stem is the label."""
    return stem


def class_name(folder: str) -> str:
    """The class that a folder is named after: "Traffic_Light" and "traffic light" are the same. "" if there is none.

    A name that is too long to show, or has unprintable characters, gives no class. In paths from archives those
    characters are escaped with a backslash.
    """
    if not folder.isprintable() or "\\" in folder or len(folder) > _MAX_NAME:
        return ""
    # Some file systems store an accented letter as two code points, others as one.
    return " ".join(unicodedata.normalize("NFC", folder.replace("_", " ")).split()).casefold()


@dataclass(frozen=True)
class Drawing:
    """One stand-in. label: the text, or a tile's class. encoded: the file's bytes. suffix: "png" or "jpg"."""

    label: str
    encoded: bytes
    suffix: str


def _draw_nothing(_: np.random.Generator) -> Drawing:
    """The stand-ins of a dataset that has none. Raises InputError."""
    raise InputError("images of your own have no stand-ins; name another dataset")


@dataclass(frozen=True)
class Dataset:
    """A labelled set of images: one as published, or one of the user's own.

    key, handle: the name here and on Kaggle. licence: as its page states it. images: the published number. symbols: all
    that labels may have. min_length, max_length: of a label, in symbols. version: raised whenever labels, rules or
    splits change, since results of two versions are not comparable. label_of: maps the raw label, see `raw_label`, to
    the label. corrupt: the raw labels of files that are damaged as published. draw: draws one stand-in in the look of
    the dataset; equal generators give equal bytes. faces: the fonts of the stand-ins; each image, or each letter,
    uses one of them, all equally often.

    path, rule: of images of the user's own, where they are and where their labels are, as `labels.find_labels` takes
    it. They have no handle, no published number and no stand-ins. If there are no symbols, or a length is 0, those of
    the labels of the images that normalisation keeps are taken.

    If the task is `grid`, the images are tiles, each in a folder named after its class, and a label has nine symbols,
    one per tile. `class_names` are the classes of the stand-ins; those of an archive are taken from its folders. If the
    handle is empty, the archive is named after the key.
    """

    key: str
    handle: str = ""
    kaggle_version: int = 0
    licence: str = "not stated"
    images: int = 0
    symbols: str = ""
    min_length: int = 0
    max_length: int = 0
    draw: Callable[[np.random.Generator], Drawing] = _draw_nothing
    path: str = ""
    rule: str = ""
    version: int = 1
    label_of: Callable[[str], str] = whole_stem
    corrupt: frozenset[str] = frozenset()
    faces: "tuple[Face, ...]" = ()
    task: Task = "text"
    class_names: tuple[str, ...] = ()

    @cached_property
    def alphabet(self) -> Alphabet:
        """Of the declared symbols. Raises InputError if there are none, or one occurs twice."""
        return Alphabet(self.symbols)

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
