"""The images that are left out, with reasons: `data/rejects/D.csv`, one row per image."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from captchabench.errors import visible
from captchabench.storage.files import write_text


class Reason(StrEnum):
    """Why an image is not in the shards. All but `duplicate` and WITHOUT_IMAGE count towards normalize.max_rejected."""

    UNDECODABLE = "undecodable"  # no image, damaged, or in an unsupported format
    TRUNCATED = "truncated"  # the file ends before the image does
    SEVERAL_FRAMES = "several_frames"  # an animation or a document of several pages
    ABSURD_DIMENSIONS = "absurd_dimensions"  # from the header, before pixels are decoded
    CORRUPT_UPSTREAM = "corrupt_upstream"  # listed as damaged in the dataset's declaration
    BLANK = "blank"  # one grey all over, on any ground and in any channel
    WRONG_LENGTH = "wrong_length"
    NO_CLASS = "no_class"  # a tile whose folder does not name a class
    SYMBOL_OUTSIDE_ALPHABET = "symbol_outside_alphabet"
    TWO_LABELS_SAME_PIXELS = "two_labels_same_pixels"  # all copies are left out, since the right label is unknown
    DUPLICATE = "duplicate"  # same pixels, same label: the copy whose path sorts first is kept
    # Images of the user's own only. The names are those of `labels.found.Reason`.
    IMAGE_WITHOUT_LABEL = "image_without_label"
    EMPTY_LABEL = "empty_label"
    TWO_LABELS = "two_labels"  # in label files, for one image
    LABEL_WITHOUT_IMAGE = "label_without_image"  # a row of a label file
    SEVERAL_IMAGES = "several_images"  # a row of a label file whose name is that of several images


WITHOUT_IMAGE = frozenset({Reason.LABEL_WITHOUT_IMAGE, Reason.SEVERAL_IMAGES})


class Rejected(Exception):
    """Raised for an image that must be left out. detail: what is wrong with this image."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, order=True)
class Reject:
    """One row of the list. label: from the file's name or folder, by the dataset's rule."""

    path: str
    label: str
    reason: str
    detail: str


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write the list, sorted by path. Line breaks in names are escaped, so each reject is one line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "reason", "detail"])
    table.writerows(map(visible, (r.path, r.label, r.reason, r.detail)) for r in sorted(rejects))
    write_text(path, text.getvalue())
