"""The parallel part of normalisation: decode, check, resize and hash the images or tiles of one row group."""

from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from captchabench.alphabet import nfc
from captchabench.config import MAX_LENGTH, NormalizeParams
from captchabench.datasets import stage_name
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError, visible
from captchabench.normalize.duplicates import hash_images
from captchabench.normalize.images import Repair, create_clahe, fit, read_image
from captchabench.normalize.rejects import Reason, Reject, Rejected

# An image whose levels of grey are all within so many shows nothing.
_BLANK = 4


@dataclass(frozen=True)
class Normalized:
    """The n accepted images of a row group, and its rejects. Duplicates have not been removed.

    ids, labels, names: n strings each. sizes: [n, 2], source width and height. hashes: [n, V, 4], see `hash_images`.
    pixels: [n, H, W]. repairs: the number of accepted images by what was amiss with the file.
    """

    ids: list[str]
    labels: list[str]
    names: list[str]
    sizes: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    pixels: NDArray[np.uint8]
    rejects: list[Reject]
    repairs: Counter[Repair]


@dataclass(frozen=True)
class Normalizer:
    """Normalises row groups of the raw file at `path`. It is pickled and sent to worker processes."""

    path: Path
    dataset: Dataset
    params: NormalizeParams

    def __call__(self, row_group: int) -> Normalized:
        # One thread per worker, since there is a worker on each core.
        cv2.setNumThreads(1)
        try:
            with pq.ParquetFile(self.path) as file:
                table = file.read_row_group(row_group)
        except (pa.ArrowException, OSError) as error:
            fix = f"run `dvc repro --force {stage_name('ingest', self.dataset.key)}`"
            raise InputError(f"{self.path}: is damaged ({visible(str(error), 200)}); {fix}") from None
        images = table["image"].combine_chunks()
        clahe = create_clahe(self.params)
        ids: list[str] = []
        labels: list[str] = []
        names: list[str] = []
        sizes: list[tuple[int, int]] = []
        pixels: list[NDArray[np.uint8]] = []
        rejects: list[Reject] = []
        repairs: Counter[Repair] = Counter()
        columns = images.field("bytes"), images.field("path").to_pylist(), table["label"].to_pylist()
        for encoded, name, raw_label in zip(*columns, strict=True):
            raw_label = nfc(raw_label)
            label = self.dataset.label_of(raw_label)
            try:
                self._check_label(raw_label, label)
                image = read_image(encoded.as_py())
                grey = image.grey
                if int(grey.max()) - int(grey.min()) < _BLANK:
                    raise Rejected(Reason.BLANK, f"one grey all over, {int(grey[0, 0])} of 255")
            except Rejected as error:
                rejects.append(Reject(name, label, error.reason, error.detail))
                continue
            repairs.update(image.repairs)
            ids.append(sample_id(grey))
            labels.append(label)
            names.append(name)
            sizes.append((grey.shape[1], grey.shape[0]))
            pixels.append(fit(grey, self.params, clahe))
        stacked = np.stack(pixels) if pixels else np.empty((0, self.params.height, self.params.width), np.uint8)
        source_sizes = np.array(sizes, np.int32).reshape(-1, 2)
        return Normalized(ids, labels, names, source_sizes, hash_images(stacked), stacked, rejects, repairs)

    def _check_label(self, raw_label: str, label: str) -> None:
        if raw_label in self.dataset.corrupt:
            raise Rejected(Reason.CORRUPT_UPSTREAM, "listed as damaged in the dataset's declaration")
        if self.dataset.task == "grid":
            if not label:
                raise Rejected(Reason.NO_CLASS, "lies in no folder of a class")
            return
        low, high = self.dataset.min_length or 1, self.dataset.max_length or MAX_LENGTH
        if not low <= len(label) <= high:
            expected = str(low) if low == high else f"{low} to {high}"
            raise Rejected(Reason.WRONG_LENGTH, f"{len(label)} symbols instead of {expected}")
        if self.dataset.symbols and (foreign := self.dataset.alphabet.foreign(label)):
            raise Rejected(Reason.SYMBOL_OUTSIDE_ALPHABET, " ".join(map(_with_code_point, dict.fromkeys(foreign))))


def _with_code_point(symbol: str) -> str:
    """The symbol, followed by its code point if it is not ASCII, since it may look like an ASCII symbol."""
    return symbol if symbol.isascii() else f"{symbol} (U+{ord(symbol):04X})"


def sample_id(grey: NDArray[np.uint8]) -> str:
    """A hash of the decoded pixels [H, W]: 32 hexadecimal digits, the same for every lossless encoding."""
    digest = blake2b(np.array(grey.shape, "<u4").tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(grey).data)
    return digest.hexdigest()
