"""A set of images with the labels that were found."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

from captchabench.sources.archives import Archive, Member

# Read a text, or name the class of a tile.
Task = Literal["text", "tiles"]
_EXAMPLES = 5


class Reason(StrEnum):
    """Why an image or a row of a label file is not used."""

    IMAGE_WITHOUT_LABEL = "image without label"
    LABEL_WITHOUT_IMAGE = "label without image"
    EMPTY_LABEL = "empty label"
    TWO_LABELS = "two labels for one image"
    SEVERAL_IMAGES = "name of several images"


@dataclass(frozen=True, order=True)
class Reject:
    """One image, or one row of a label file, that is not used. path: as the set or the label file writes it."""

    path: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class Labelled:
    """An image and its label, NFC. image: its reference in the set, for `LabelledImages.read`."""

    image: Member
    label: str


@dataclass(frozen=True)
class LabelledImages:
    """The result of `find_labels`.

    rule: as `--labels` takes it. entries: the images that have a label, in the order of the set. skipped: the number of
    files that are neither images nor label files, by reason.
    """

    source: Archive
    rule: str
    task: Task
    entries: tuple[Labelled, ...]
    rejects: tuple[Reject, ...]
    skipped: Mapping[str, int]

    @cached_property
    def symbols(self) -> str:
        """The symbols of all labels, in code point order."""
        return "".join(sorted(set().union(*(entry.label for entry in self.entries))))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The different labels, sorted. For tiles they are the classes."""
        return tuple(sorted({entry.label for entry in self.entries}))

    @cached_property
    def lengths(self) -> dict[int, int]:
        """The number of labels of each length."""
        return dict(sorted(Counter(len(entry.label) for entry in self.entries).items()))

    @property
    def rejected(self) -> dict[Reason, int]:
        """The number of rejects, by reason."""
        return dict(Counter(reject.reason for reject in self.rejects))

    @property
    def examples(self) -> tuple[Labelled, ...]:
        """Five entries, evenly spaced, or all if there are fewer."""
        last = len(self.entries) - 1
        chosen = sorted({round(i * last / (_EXAMPLES - 1)) for i in range(_EXAMPLES)})
        return tuple(self.entries[i] for i in chosen)

    @property
    def case_occurs(self) -> bool:
        """Whether a letter occurs in both cases, so that exact and case-folded match can differ."""
        return len({symbol.casefold() for symbol in self.symbols}) < len(self.symbols)

    def read(self) -> Iterator[tuple[Labelled, bytes]]:
        """The entries with the encoded images, in order. Raises InputError if the source is damaged."""
        encoded = self.source.read([entry.image for entry in self.entries])
        for entry, image in zip(self.entries, encoded, strict=True):
            yield entry, image.encoded
