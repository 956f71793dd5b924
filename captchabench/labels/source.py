"""Images of the user's own as a source to ingest."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError, visible
from captchabench.labels.finding import find_labels
from captchabench.labels.found import LabelledImages
from captchabench.normalize.rejects import WITHOUT_IMAGE, Reason
from captchabench.samples.raw import Entry, RawReject
from captchabench.sources.opening import rank


class LabelledSource:
    """`images` of the images in `found`: those whose names have the lowest hashes with `seed`, or all if fewer.

    rule: where the labels were found. rejects: the chosen images without a usable label, and all rows of label files
    without an image.
    """

    def __init__(self, found: LabelledImages, images: int | Literal["all"] = "all", seed: int = 0) -> None:
        rejects = [RawReject(r.path, Reason[r.reason.name], r.detail) for r in found.rejects]
        unlabelled = [reject for reject in rejects if reject.reason not in WITHOUT_IMAGE]
        self.rule = found.rule
        self.available = len(found.entries) + len(unlabelled)
        self.skipped: Mapping[str, int] = found.skipped
        self._found = found
        if images != "all" and images < self.available:
            labelled = [(entry.image.path, entry.image.position) for entry in found.entries]
            candidates = [*labelled, *((reject.path, -1) for reject in unlabelled)]
            kept = set(sorted(candidates, key=lambda candidate: rank(candidate[0], candidate[1], seed))[:images])
            chosen = [entry for entry, key in zip(found.entries, labelled, strict=True) if key in kept]
            self._found = replace(found, entries=tuple(chosen))
            rejects = [r for r in rejects if r.reason in WITHOUT_IMAGE or (r.path, -1) in kept]
        self.rejects = tuple(rejects)
        self.total = len(self._found.entries)

    def entries(self) -> Iterator[Entry]:
        """The chosen images with their labels, in the order of the set."""
        for entry, encoded in self._found.read():
            yield Entry(entry.image.path, encoded, entry.label)


def open_labelled(dataset: Dataset, images: int | Literal["all"], seed: int) -> LabelledSource:
    """Find the labels of a dataset of the user's own images. Raises InputError like `find_labels`.

    An inferred rule must find texts for a dataset of texts, and classes for one of tiles: other labels are likelier to
    be read wrongly than to be meant.
    """
    option = f"datasets.{dataset.key}.labels:"
    found = find_labels(Path(dataset.path), dataset.rule, option)
    tiles = dataset.task == "grid"
    if not dataset.rule and tiles != (found.task == "tiles"):
        lists = ["matrix.datasets", "matrix.tiles.datasets"]
        wrong, right = lists[::-1] if tiles else lists
        kind = "texts" if tiles else "classes of tiles"
        examples = ", ".join(f"'{visible(entry.label, 30)}'" for entry in found.examples)
        raise InputError(
            f"params.yaml: {wrong}: the labels of '{dataset.key}' look like {kind} ({examples}, by {found.rule}); name "
            f"it in {right}, or give {option} {found.rule}"
        )
    return LabelledSource(found, images, seed)
