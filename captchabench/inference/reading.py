"""Many files read in batches: decoding runs ahead on all cores while the model reads."""

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
    """What was read of a file: a prediction, or why there is none."""

    file: ImageFile
    prediction: Prediction | None
    error: Unreadable | None


def read_files(recogniser: LoadedRecogniser, files: Iterable[ImageFile], top_k: int) -> Iterator[list[FileReading]]:
    """What `recogniser` reads of each file, in order, a batch at a time. Two batches are in memory at once."""

    def prepare(file: ImageFile) -> NDArray[np.uint8]:
        return recogniser.prepare(recogniser.decode(file.path if file.content is None else file.content))

    with ThreadPoolExecutor(cores()) as pool:
        waiting: list[tuple[ImageFile, Future[NDArray[np.uint8]]]] = []
        for batch in _batches(files):
            started = [(file, pool.submit(prepare, file)) for file in batch]
            if waiting:
                yield _read(recogniser, waiting, top_k)
            waiting = started
        if waiting:
            yield _read(recogniser, waiting, top_k)


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
    read = iter(recogniser.read(np.stack(pixels), top_k) if pixels else [])
    return [
        FileReading(file, None if error else next(read), error) for (file, _), error in zip(batch, errors, strict=True)
    ]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
