"""Reads many files in batches. Threads on all cores decode the next batch while the model reads the current one."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from captchabench.inference.files import ImageFile
from captchabench.inference.images import Unreadable
from captchabench.inference.loaded import LoadedRecogniser
from captchabench.inference.results import Prediction
from captchabench.pool import cores

T = TypeVar("T")

BATCH = 512


@dataclass(frozen=True)
class FileReading:
    """The result for one file: a prediction, or the error."""

    file: ImageFile
    prediction: Prediction | None
    error: Unreadable | None


def read_files(recogniser: LoadedRecogniser, files: Iterable[ImageFile], top_k: int) -> Iterator[list[FileReading]]:
    """Read each file with `recogniser` and yield the results in order, by batch. Holds two batches in memory."""

    def prepare(file: ImageFile) -> NDArray[np.uint8]:
        return recogniser.prepare(recogniser.decode(file.path if file.content is None else file.content))

    with ThreadPoolExecutor(cores()) as pool:
        pending: list[tuple[ImageFile, Future[NDArray[np.uint8]]]] = []
        for batch in _batches(files):
            started = [(file, pool.submit(prepare, file)) for file in batch]
            if pending:
                yield _read(recogniser, pending, top_k)
            pending = started
        if pending:
            yield _read(recogniser, pending, top_k)


def _read(
    recogniser: LoadedRecogniser, batch: list[tuple[ImageFile, "Future[NDArray[np.uint8]]"]], top_k: int
) -> list[FileReading]:
    pixels = []
    errors: list[Unreadable | None] = []
    for _, future in batch:
        try:
            pixels.append(future.result())
            errors.append(None)
        except Unreadable as error:
            errors.append(error)
    predictions = iter(recogniser.read(np.stack(pixels), top_k) if pixels else [])
    return [
        FileReading(file, None if error else next(predictions), error)
        for (file, _), error in zip(batch, errors, strict=True)
    ]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
