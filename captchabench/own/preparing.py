"""The first half of a run: labels are found, images are cleaned, resized and assigned to folds."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize as compose

import numpy as np

from captchabench.alphabet import Alphabet
from captchabench.config import NormalizeParams, TileParams
from captchabench.datasets import DATASETS, UNION
from captchabench.datasets.base import TILES, Dataset, Drawing
from captchabench.errors import InputError, visible
from captchabench.labels.finding import find_labels
from captchabench.labels.found import LabelledImages, Reject
from captchabench.models import MAX_LENGTH
from captchabench.normalize.images import decode_grey
from captchabench.normalize.rejects import Rejected
from captchabench.normalize.texts import normalize
from captchabench.normalize.tiles import normalize_tiles
from captchabench.own.plan import Size, size_of
from captchabench.progress import tracked
from captchabench.samples.raw import Entry, RawInfo, write_raw

FOLDS = 5
SOURCE = "own"
# With fewer, the held-out fifth is a handful of images and says nothing.
MIN_IMAGES = 30
MIN_TILES = 20 * TILES
_MEASURED_SIZES = 200
_MAX_DROPPED = 0.5


@dataclass(frozen=True)
class Options:
    """What the user decides about labels. labels: a rule, see `labels.rules`. alphabet: symbols; others are rejected.

    All are inferred by default. case_folded: labels differ from each other in more than case.
    """

    labels: str = ""
    alphabet: str = ""
    case_folded: bool = False


@dataclass(frozen=True)
class Found:
    """A set of images as it was found, before any pixel is cleaned.

    labels: of the entries, with case folded if that was asked for. sizes: width and height of some images -> count.
    """

    images: LabelledImages
    name: str
    labels: tuple[str, ...]
    alphabet: Alphabet
    sizes: dict[tuple[int, int], int]
    size: Size

    @property
    def tiles(self) -> bool:
        """Whether the labels are classes of tiles."""
        return self.images.task == "tiles"

    @property
    def lengths(self) -> dict[int, int]:
        """The number of labels of each length."""
        return dict(sorted(Counter(map(len, self.labels)).items()))

    @property
    def case_occurs(self) -> bool:
        """Whether a letter occurs in both cases, so that exact and case-folded match can differ."""
        return not self.tiles and len({s.casefold() for s in self.alphabet.symbols}) < len(self.alphabet)


@dataclass(frozen=True)
class Prepared:
    """The shards of a set. figures: those of normalisation."""

    found: Found
    folder: Path
    figures: dict[str, Any]

    @property
    def kept(self) -> int:
        """The number of images, or of tiles, in the shards and left over."""
        return int(self.figures["kept"])


def find(path: Path, options: Options) -> Found:
    """Find the labels of the images at `path`, and look at their sizes.

    Raises InputError if they cannot be found, or if there is too little to learn from.
    """
    images = find_labels(path, options.labels)
    tiles = images.task == "tiles"
    labels = tuple(
        entry.label.lower() if options.case_folded and not tiles else entry.label for entry in images.entries
    )
    if tiles:
        if options.alphabet:
            raise InputError(f"{path}: --alphabet is for texts, and these are tiles of {len(images.classes)} classes")
        least, what = MIN_TILES, "tiles"
    else:
        least, what = MIN_IMAGES, "images"
        if options.alphabet:
            given = compose("NFC", options.alphabet)
            alphabet = Alphabet("".join(dict.fromkeys(given.lower() if options.case_folded else given)))
        else:
            alphabet = Alphabet("".join(sorted(set().union(*labels))))
        longest = max(labels, key=len)
        if len(longest) > MAX_LENGTH:
            raise InputError(
                f"{path}: '{visible(longest, 60)}' has {len(longest)} symbols by {images.rule}, and recognisers read "
                f"at most {MAX_LENGTH}; name another rule with --labels"
            )
    if len(labels) < least:
        raise InputError(f"{path}: {len(labels):,} labelled {what}, and training needs at least {least}; add some")
    sizes = _sizes(images)
    if not sizes:
        raise InputError(f"{path}: the images with labels cannot be decoded; are they images?")
    return Found(
        images,
        _name(path),
        labels,
        Alphabet("".join(sorted(set().union(*labels)))) if tiles else alphabet,
        sizes,
        size_of(sizes, max(map(len, labels)), tiles=tiles),
    )


def prepare(found: Found, folder: Path) -> Prepared:
    """Write the raw file, the shards and the list of rejects into `folder`, as the benchmark's data folder has them.

    Raises InputError if too few images are left.
    """
    raw, shards = folder / "raw" / f"{found.name}.parquet", folder / "shards" / found.name
    rejects = folder / "rejects" / f"{found.name}.csv"
    entries = found.images.entries
    info = RawInfo(found.name, SOURCE, 1, len(entries), dict(found.images.skipped))
    label_of = {entry.image.path: label for entry, label in zip(entries, found.labels, strict=True)}
    write_raw(raw, info, tracked(_encoded(found.images), len(entries), "read"), label_of.__getitem__)
    size = found.size
    params = NormalizeParams(size.height, size.width, size.resize, max_rejected=1.0)
    dataset = _declared(found)
    try:
        if found.tiles:
            grids = TileParams(height=size.height, width=size.width)
            figures = normalize_tiles(dataset, raw, params, grids, FOLDS, shards, rejects)
        else:
            figures = normalize(dataset, raw, params, FOLDS, shards, rejects)
    except InputError as error:
        # Its remedy is a parameter of the benchmark.
        if "folds.count" not in str(error):
            raise
        few = "tiles" if found.tiles else "images"
        raise InputError(f"{found.images.source.path}: too few different {few} for {FOLDS} folds; add some") from None
    if figures["rejected_share"] > _MAX_DROPPED:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(figures["rejected"].items()))
        raise InputError(
            f"{found.images.source.path}: {figures['rejected_share']:.0%} of the images cannot be used ({reasons}); "
            f"see {rejects}, or name another rule with --labels"
        )
    return Prepared(found, folder, figures)


def unused(found: Found) -> list[Reject]:
    """The images and rows of label files that have no use, sorted; see `LabelledImages.rejects`."""
    return list(found.images.rejects)


def _name(path: Path) -> str:
    """The name of a set, from its path: lower-case letters, digits and underscores."""
    stem = re.sub(r"(\.tar)?\.\w+$", "", path.absolute().name) if path.is_file() else path.absolute().name
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_") or "images"
    return f"{name}_own" if name in (*DATASETS.names(), UNION) else name[:60]


def _sizes(images: LabelledImages) -> dict[tuple[int, int], int]:
    """Width and height -> number, of at most _MEASURED_SIZES images that are spread evenly over the set."""
    step = max(1, len(images.entries) // _MEASURED_SIZES)
    sizes: Counter[tuple[int, int]] = Counter()
    for entry in images.source.read([entry.image for entry in images.entries[::step]]):
        try:
            height, width = decode_grey(entry.encoded).shape
        except Rejected:
            continue
        sizes[width, height] += 1
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def _encoded(images: LabelledImages) -> Iterator[Entry]:
    for entry, encoded in images.read():
        yield Entry(entry.image.path, encoded)


def _declared(found: Found) -> Dataset:
    """The declaration of the set. Its raw labels are labels."""
    lengths = [TILES] if found.tiles else list(found.lengths)
    return Dataset(
        key=found.name,
        handle="",
        kaggle_version=0,
        licence="",
        images=len(found.labels),
        alphabet=found.alphabet,
        min_length=min(lengths),
        max_length=max(lengths),
        draw=_undrawn,
        task="grid" if found.tiles else "text",
        class_names=found.images.classes if found.tiles else (),
    )


def _undrawn(_: np.random.Generator) -> Drawing:
    raise InputError("a set of one's own has no stand-ins; give its images")
