"""The first half of a run: labels are found, images are cleaned, resized and assigned to folds."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from captchabench.alphabet import Alphabet, fold_case
from captchabench.config import MAX_LENGTH, NormalizeParams, TileParams
from captchabench.datasets import DATASETS, UNION
from captchabench.datasets.base import TILES, Dataset, class_name
from captchabench.datasets.declared import declare
from captchabench.errors import InputError, visible
from captchabench.labels.finding import find_labels
from captchabench.labels.found import LabelledImages
from captchabench.labels.source import LabelledSource
from captchabench.normalize.images import decode_grey
from captchabench.normalize.rejects import Rejected
from captchabench.normalize.texts import normalize
from captchabench.normalize.tiles import normalize_tiles
from captchabench.own.plan import Size, size_of
from captchabench.progress import tracked
from captchabench.samples.raw import RawInfo, write_raw

FOLDS = 5
SOURCE = "archive"
# With fewer, the held-out fifth is a handful of images and says nothing.
MIN_IMAGES = 30
MIN_TILES = 20 * TILES
_MEASURED_SIZES = 200
_MAX_DROPPED = 0.5
_MAX_NAME = 40


@dataclass(frozen=True)
class Options:
    """What the user decides about labels. labels: a rule, see `labels.rules`. alphabet: symbols; others are rejected.

    Both are inferred if empty. case_folded: labels do not tell upper from lower case, and are read as lower case.
    """

    labels: str = ""
    alphabet: str = ""
    case_folded: bool = False


@dataclass(frozen=True)
class Found:
    """A set of images as it was found, before any pixel is cleaned.

    labels: of the entries, with case folded if that was asked for. alphabet: the symbols of texts that are read; empty
    for tiles. sizes: (width, height) of some of the images -> their number. size: what images are resized to.
    """

    images: LabelledImages
    dataset: Dataset
    labels: tuple[str, ...]
    alphabet: str
    sizes: dict[tuple[int, int], int]
    size: Size

    @property
    def name(self) -> str:
        """The name of the set, as of a dataset."""
        return self.dataset.key

    @property
    def tiles(self) -> bool:
        """Whether the labels are classes of tiles."""
        return self.dataset.task == "grid"

    @property
    def photographs(self) -> bool:
        """Whether the tiles show things: their classes have names, not one symbol each as those of characters have."""
        return self.tiles and max(map(len, self.labels)) > 1

    @property
    def classes(self) -> list[str]:
        """The classes of tiles, sorted; empty for texts."""
        return sorted({label for label in self.labels if label}) if self.tiles else []

    @property
    def lengths(self) -> dict[int, int]:
        """The number of labels of each length."""
        return dict(sorted(Counter(map(len, self.labels)).items()))

    @property
    def case_occurs(self) -> bool:
        """Whether a letter occurs in both cases, so that exact and case-folded match can differ."""
        return len(set(map(fold_case, self.alphabet))) < len(self.alphabet)


@dataclass(frozen=True)
class Prepared:
    """The shards of a set. folder: of all outputs. figures: those of normalisation."""

    found: Found
    folder: Path
    figures: dict[str, Any]

    @property
    def kept(self) -> int:
        """The number of images, or of tiles, that passed all checks."""
        return int(self.figures["kept"])

    @property
    def left_out(self) -> dict[str, int]:
        """The number of images, and of rows of label files, without a use, by reason."""
        rejected: dict[str, int] = self.figures["rejected"]
        return {reason.replace("_", " "): number for reason, number in sorted(rejected.items())}


def find(path: Path, options: Options) -> Found:
    """Find the labels of the images at `path`, and look at their sizes.

    Raises InputError if labels cannot be found, or if there is too little to learn from.
    """
    images = find_labels(path, options.labels)
    tiles = images.task == "tiles"
    if tiles and options.alphabet:
        raise InputError(
            f"{path}: --alphabet is for texts, and the labels are {len(images.classes)} classes; leave it out"
        )
    try:
        dataset = declare(
            _name(path),
            path,
            images.rule,
            alphabet=options.alphabet,
            case_folded=options.case_folded,
            task="grid" if tiles else "text",
        )
    except InputError as error:
        raise InputError(f"--alphabet: {error}") from None
    if tiles and not options.case_folded:
        dataset = replace(dataset, label_of=_as_written)
    labels = tuple(dataset.label_of(entry.label) for entry in images.entries)
    if len(set(labels)) == 1:
        raise InputError(
            f"{path}: all {len(labels):,} labels are '{visible(labels[0], 60)}' by {images.rule}; name another rule "
            "with --labels, or add images of others"
        )
    least, what = (MIN_TILES, "tiles") if tiles else (MIN_IMAGES, "images")
    if len(labels) < least:
        raise InputError(
            f"{path}: {len(labels):,} {what} with a label, and training needs at least {least}; add some, or name "
            f"another rule than {images.rule} with --labels"
        )
    alphabet = "" if tiles else dataset.symbols or _symbols_of(path, images.rule, labels)
    sizes = _sizes(images)
    if not sizes:
        raise InputError(f"{path}: no image with a label can be decoded; are they images?")
    longest = min(max(map(len, labels)), MAX_LENGTH)
    return Found(images, dataset, labels, alphabet, sizes, size_of(sizes, longest, tiles=tiles))


def prepare(found: Found, folder: Path) -> Prepared:
    """Write the raw file, the shards and the list of rejects into `folder`, as the benchmark's data folder has them.

    Raises InputError if too few images are left.
    """
    path, name = found.images.source.path, found.name
    raw, shards, rejects = (
        folder / "raw" / f"{name}.parquet",
        folder / "shards" / name,
        folder / "rejects" / f"{name}.csv",
    )
    source = LabelledSource(found.images)
    info = RawInfo(name, SOURCE, found.dataset.version, source.available, source.skipped, source.rule, source.rejects)
    write_raw(raw, info, tracked(source.entries(), source.total, "read"))
    size = found.size
    params = NormalizeParams(size.height, size.width, size.resize, max_rejected=1.0)
    # No worker processes: they would run a script again that calls `train` without a guard.
    try:
        if found.tiles:
            grids = TileParams(height=size.height, width=size.width)
            figures = normalize_tiles(found.dataset, raw, params, grids, FOLDS, shards, rejects, workers=1)
        else:
            figures = normalize(found.dataset, raw, params, FOLDS, shards, rejects, workers=1)
    except InputError as error:
        # Its remedy is a parameter of the benchmark.
        if "folds.count" not in str(error):
            raise
        what = "tiles" if found.tiles else "images"
        raise InputError(f"{path}: too few different {what} for {FOLDS} folds; add some") from None
    prepared = Prepared(found, folder, figures)
    if figures["rejected_share"] > _MAX_DROPPED:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in prepared.left_out.items())
        raise InputError(
            f"{path}: {figures['rejected_share']:.0%} of the images cannot be used ({reasons}); see {rejects}, or name "
            "another rule with --labels"
        )
    return prepared


def _as_written(folder: str) -> str:
    """The class that a folder is named after, with the case and the underscores of its name; "" if it names none."""
    return folder if class_name(folder) else ""


def _name(path: Path) -> str:
    """The name of a set, from its path: lower-case letters, digits and underscores."""
    stem = re.sub(r"(\.tar)?\.\w+$", "", path.absolute().name) if path.is_file() else path.absolute().name
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:_MAX_NAME] or "images"
    return f"own_{name}"[:_MAX_NAME] if name in (*DATASETS.names(), UNION) else name


def _symbols_of(path: Path, rule: str, labels: tuple[str, ...]) -> str:
    try:
        return Alphabet.of(labels).symbols
    except InputError as error:
        raise InputError(f"{path}: {error}; is {rule} the right rule? --labels names another") from None


def _sizes(images: LabelledImages) -> dict[tuple[int, int], int]:
    """(width, height) -> number, of at most _MEASURED_SIZES images that are spread evenly over the set."""
    step = max(1, len(images.entries) // _MEASURED_SIZES)
    sizes: Counter[tuple[int, int]] = Counter()
    for entry in images.source.read([entry.image for entry in images.entries[::step]]):
        try:
            height, width = decode_grey(entry.encoded).shape
        except Rejected:
            continue
        sizes[width, height] += 1
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))
