"""From one row group of raw images (or tiles) to pixels, labels and hashes: what normalisation does on all cores."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from captchabench.config import NormalizeParams
from captchabench.datasets import stage_name
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError, visible
from captchabench.normalize.duplicates import hashes_of_moved
from captchabench.normalize.images import contrast, decode_grey, fit
from captchabench.normalize.rejects import Reason, Reject, Rejected


@dataclass(frozen=True)
class Normalized:
    """The images of a row group that are sound by themselves, and the others.

    ids, labels, names: n strings each. sizes: [n, 2], source width and height. hashes: [n, 3, 4].
    pixels: [n, H, W].
    """

    ids: list[str]
    labels: list[str]
    names: list[str]
    sizes: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    pixels: NDArray[np.uint8]
    rejects: list[Reject]


@dataclass(frozen=True)
class Normalizer:
    """Normalises a row group of the raw file at `path`; sent to worker processes as it is."""

    path: Path
    dataset: Dataset
    params: NormalizeParams

    def __call__(self, row_group: int) -> Normalized:
        # The workers share the cores: threads inside one would only get in the others' way.
        cv2.setNumThreads(1)
        try:
            with pq.ParquetFile(self.path) as file:
                table = file.read_row_group(row_group)
        except (pa.ArrowException, OSError) as error:
            again = f"run `dvc repro --force {stage_name('ingest', self.dataset.key)}`"
            raise InputError(f"{self.path}: is damaged ({visible(str(error), 200)}); {again}") from None
        found = table["image"].combine_chunks()
        clahe = contrast(self.params)
        ids: list[str] = []
        labels: list[str] = []
        names: list[str] = []
        sizes: list[tuple[int, int]] = []
        pixels: list[NDArray[np.uint8]] = []
        rejects: list[Reject] = []
        columns = found.field("bytes"), found.field("path").to_pylist(), table["label"].to_pylist()
        for encoded, name, stem in zip(*columns, strict=True):
            label = self.dataset.label_of(stem)
            try:
                self._check_label(stem, label)
                grey = decode_grey(encoded.as_py())
            except Rejected as error:
                rejects.append(Reject(name, label, error.reason, error.detail))
                continue
            ids.append(sample_id(grey))
            labels.append(label)
            names.append(name)
            sizes.append((grey.shape[1], grey.shape[0]))
            pixels.append(fit(grey, self.params, clahe))
        stacked = np.stack(pixels) if pixels else np.empty((0, self.params.height, self.params.width), np.uint8)
        source_sizes = np.array(sizes, np.int32).reshape(-1, 2)
        return Normalized(ids, labels, names, source_sizes, hashes_of_moved(stacked), stacked, rejects)

    def _check_label(self, stem: str, label: str) -> None:
        if stem in self.dataset.corrupt:
            raise Rejected(Reason.CORRUPT_UPSTREAM, "listed as damaged in the dataset's declaration")
        if self.dataset.task == "grid":
            if not label:
                raise Rejected(Reason.NO_CLASS, "lies in no folder of a class")
            return
        low, high = self.dataset.min_length, self.dataset.max_length
        if not low <= len(label) <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise Rejected(Reason.WRONG_LENGTH, f"{len(label)} symbols instead of {wanted}")
        if foreign := self.dataset.alphabet.foreign(label):
            raise Rejected(Reason.SYMBOL_OUTSIDE_ALPHABET, " ".join(map(_told_apart, dict.fromkeys(foreign))))


def _told_apart(symbol: str) -> str:
    """A symbol with its code point where it is not ASCII: many look like one that is."""
    return symbol if symbol.isascii() else f"{symbol} (U+{ord(symbol):04X})"


def sample_id(grey: NDArray[np.uint8]) -> str:
    """32 hex digits that stand for the decoded pixels [H, W]: equal for lossless re-encodings."""
    digest = blake2b(np.array(grey.shape, "<u4").tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(grey).data)
    return digest.hexdigest()
