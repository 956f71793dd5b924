"""Images that are left out, and why: `data/rejects/D.csv`, one row an image."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from captchabench.errors import visible
from captchabench.storage.files import write_text


class Reason(StrEnum):
    """Why an image is not in the shards. All but `duplicate` count towards normalize.max_rejected."""

    UNDECODABLE = "undecodable"  # no image, damaged, or of a kind that no captcha has
    TRUNCATED = "truncated"  # the file ends before the image does
    SEVERAL_FRAMES = "several_frames"  # an animation or a document of several pages
    ABSURD_DIMENSIONS = "absurd_dimensions"  # judged by the header, before anything is expanded
    CORRUPT_UPSTREAM = "corrupt_upstream"  # the dataset's declaration lists the file as damaged
    WRONG_LENGTH = "wrong_length"
    NO_CLASS = "no_class"  # a tile that lies in no folder that could name a class
    SYMBOL_OUTSIDE_ALPHABET = "symbol_outside_alphabet"
    TWO_LABELS_SAME_PIXELS = "two_labels_same_pixels"  # all of them: which label is right cannot be known
    DUPLICATE = "duplicate"  # same pixels, same label: the copy whose path sorts first is kept


class Rejected(Exception):
    """An image that must be left out, with the reason and what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, order=True)
class Reject:
    """One row of the list. `label` is the label that the file's name gives."""

    path: str
    label: str
    reason: str
    detail: str


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write the list, sorted by path, whole or not at all: a line a reject, whatever characters are in it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "reason", "detail"])
    table.writerows(map(visible, (r.path, r.label, r.reason, r.detail)) for r in sorted(rejects))
    write_text(path, text.getvalue())
