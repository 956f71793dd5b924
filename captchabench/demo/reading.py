"""The models at work: batches of uploaded images in, readings out, in a process that does nothing else.

A process of its own, because Python runs one thread at a time: beside a busy web server in the same process, a
network waits for its turn after each of its hundreds of small steps.
"""

import asyncio
import logging
import math
import os
import signal
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.errors import InputError
from captchabench.inference.images import DEFAULT_LIMITS, Limits, Unreadable, decode
from captchabench.inference.loaded import LoadedRecogniser, load_recogniser
from captchabench.inference.results import Explanation, Prediction
from captchabench.orphans import end_with_parent

logger = logging.getLogger(__name__)

# Seconds that a model may take over a batch, loading included, and that decoding one may. Sound ones take a few.
_PATIENCE = 60.0
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One image, and who is to read it. image: encoded, or [H, W] uint8 grey. `explain`: say how, too."""

    image: bytes | NDArray[np.uint8]
    models: tuple[str, ...]
    top_k: int = 1
    explain: bool = False


@dataclass(frozen=True)
class Rejection:
    """Why an image was not read. `reason` as in the list of rejects."""

    reason: str
    detail: str


# One reading a model, as `schemas.Reading` describes it, ready for JSON.
Answer: TypeAlias = list[dict[str, Any]] | Rejection


class Stopped(Exception):
    """The process that reads has died, or was ended. The next batch gets a new one."""


class Bench:
    """Trained models by the name of their folder, each loaded when it is first asked for.

    left_out: models that are not to be used, with the reason. note: what it is at, for a process that watches this
    one: the number of the model in `folders`, -1 while it decodes, and since when on the monotonic clock, 0 while there
    is nothing to do.
    """

    def __init__(
        self,
        folders: dict[str, Path],
        max_pixels: int,
        left_out: Mapping[str, str],
        note: MutableSequence[float],
    ) -> None:
        self._folders = folders
        self._limits = replace(DEFAULT_LIMITS, pixels=max_pixels)
        self._left_out = left_out
        self._note = note
        self._numbers = {name: number for number, name in enumerate(folders)}
        self._loaded: dict[str, LoadedRecogniser] = {}

    def read(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers to `jobs`, in their order. Images that one model reads in the same way are read together."""
        try:
            return self._answers(jobs)
        finally:
            self._note[1] = 0.0

    def _answers(self, jobs: Sequence[Job]) -> list[Answer]:
        self._begin(-1)
        decoded = [_decode(job.image, self._limits) for job in jobs]
        groups: dict[tuple[str, int, bool], list[int]] = defaultdict(list)
        for place, (job, image) in enumerate(zip(jobs, decoded, strict=True)):
            if not isinstance(image, Rejection):
                for model in job.models:
                    groups[model, job.top_k, job.explain].append(place)
        found: list[dict[str, dict[str, Any]]] = [{} for _ in jobs]
        for (model, top_k, explain), places in groups.items():
            readings = self._read(model, [decoded[place] for place in places], top_k, explain)
            for place, reading in zip(places, readings, strict=True):
                found[place][model] = reading
        return [
            image if isinstance(image, Rejection) else [by_model[model] for model in job.models]
            for job, image, by_model in zip(jobs, decoded, found, strict=True)
        ]

    def _begin(self, number: int) -> None:
        self._note[0] = number
        self._note[1] = time.monotonic()

    def _read(self, name: str, greys: list[Any], top_k: int, explain: bool) -> list[dict[str, Any]]:
        """One model's readings. Where it fails they say so: those beside it can be used all the same."""
        if name in self._left_out:
            return _failed(name, self._left_out[name], len(greys))
        self._begin(self._numbers[name])
        try:
            return self._readings(name, greys, top_k, explain)
        except InputError as error:
            return _failed(name, str(error), len(greys))
        # Too little memory, or a fault of ours that these weights bring to light.
        except Exception:
            logger.exception("%s could not read", name)
            return _failed(name, f"{name}: failed; the terminal says why", len(greys))

    def _readings(self, name: str, greys: list[Any], top_k: int, explain: bool) -> list[dict[str, Any]]:
        model = self._load(name)
        pixels = np.stack([model.prepare(grey) for grey in greys])
        readings = [_as_reading(name, prediction) for prediction in model.read(pixels, top_k)]
        if explain:
            for reading, explanation in zip(readings, model.explain(greys), strict=True):
                reading["how"] = _as_how(explanation)
        return readings

    def _load(self, name: str) -> LoadedRecogniser:
        if name not in self._loaded:
            self._loaded[name] = load_recogniser(self._folders[name])
        return self._loaded[name]


class Reader:
    """Runs a Bench elsewhere. `executor` makes the place where; by default a process of its own.

    That process is ended where decoding a batch, or one model over it, takes longer than `patience` seconds. That model
    is then left out.
    """

    def __init__(
        self,
        folders: dict[str, Path],
        max_pixels: int,
        executor: Callable[[], Executor] | None = None,
        patience: float = _PATIENCE,
    ) -> None:
        self._folders = folders
        self._max_pixels = max_pixels
        self._make = executor or self._make_process
        self._patience = patience
        self._left_out: dict[str, str] = {}
        self._context = _Spawning()
        self._note: MutableSequence[float] = [-1.0, 0.0]
        self._read: Callable[[Sequence[Job]], list[Answer]] = _read_here
        if executor:
            self._read = Bench(folders, max_pixels, self._left_out, self._note).read
        self._executor = self._make()

    async def read(self, jobs: list[Job]) -> list[Answer]:
        """The answers to `jobs`, in their order. Raises Stopped if the process died over them, or was ended."""
        executor = self._executor
        work = asyncio.get_running_loop().run_in_executor(executor, self._read, jobs)
        try:
            while not (await asyncio.wait({work}, timeout=_LOOK_SECONDS))[0]:
                self._end_if_stuck()
            return work.result()
        except BrokenProcessPool:
            # Two batches may be on their way, and the other has seen it first.
            if executor is self._executor:
                logger.error("the process that reads images died; starting another")
                executor.shutdown(wait=False)
                self._executor = self._make()
            raise Stopped from None

    async def warm(self) -> None:
        """Start the process, which takes seconds: not at the expense of the first visitor."""
        await self.read([])

    def close(self) -> None:
        """End the process, whatever it is at: nobody waits for it any more, and it writes nothing."""
        self._context.end()
        self._executor.shutdown(cancel_futures=True)

    def _make_process(self) -> Executor:
        self._note = self._context.RawArray("d", (-1.0, 0.0))
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=self._context,
            initializer=_begin,
            initargs=(self._folders, self._max_pixels, self._left_out, self._note),
        )

    def _end_if_stuck(self) -> None:
        number, since = self._note
        if not since or time.monotonic() - since <= self._patience:
            return
        if number >= 0:
            name = list(self._folders)[int(number)]
            self._left_out[name] = f"{name}: took more than {self._patience:g} s and is left out; start the demo anew"
            logger.error("%s", self._left_out[name])
        self._note[1] = 0.0
        self._context.end()


class _Spawning(SpawnContext):
    """Starts processes afresh, as usual, and can end the last that it started."""

    def __init__(self) -> None:
        super().__init__()
        self._last: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # there an attribute
        """What a pool calls to start one."""
        self._last = SpawnProcess(*args, **kwargs)
        return self._last

    def end(self) -> None:
        """End the last process at once, if there is one and it lives."""
        if self._last is not None and self._last.pid is not None:
            self._last.kill()


_bench: Bench | None = None


def _begin(
    folders: dict[str, Path], max_pixels: int, left_out: Mapping[str, str], note: MutableSequence[float]
) -> None:
    """What the process does first."""
    global _bench
    # Ctrl-C reaches the whole group; the server says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # OpenMP reads this when a model brings torch. Its threads would wait by spinning, on cores that the server needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cv2.setNumThreads(1)
    _bench = Bench(folders, max_pixels, left_out, note)


def _read_here(jobs: Sequence[Job]) -> list[Answer]:
    assert _bench is not None, "begun"
    return _bench.read(jobs)


def _decode(image: bytes | NDArray[np.uint8], limits: Limits) -> NDArray[np.uint8] | Rejection:
    if not isinstance(image, bytes):
        return image
    try:
        return decode(image, limits)
    except Unreadable as error:
        return Rejection(str(error.reason), error.detail)


def _failed(name: str, why: str, count: int) -> list[dict[str, Any]]:
    reading: dict[str, Any] = {"model": name, "text": None, "confidence": None, "alternatives": [], "how": None}
    return [{**reading, "error": why} for _ in range(count)]


def _as_reading(name: str, prediction: Prediction) -> dict[str, Any]:
    others = [{"text": other.text, "probability": _finite(other.probability)} for other in prediction.alternatives]
    return {
        "model": name,
        "text": prediction.text,
        "confidence": _finite(prediction.confidence),
        "alternatives": others,
        "how": None,
        "error": None,
    }


def _as_how(explanation: Explanation) -> dict[str, Any]:
    height, width = explanation.picture.shape
    return {
        "kind": explanation.steps.kind,
        "width": width,
        "height": height,
        "picture": _as_uri(explanation.picture),
        "steps": [
            {
                "left": step.left,
                "top": step.top,
                "right": step.right,
                "bottom": step.bottom,
                "symbol": step.symbol,
                "probability": _finite(step.probability),
            }
            for step in explanation.steps.steps
        ],
    }


def _as_uri(picture: NDArray[np.uint8]) -> str:
    done, encoded = cv2.imencode(".png", picture)
    assert done, "OpenCV writes PNG"
    return "data:image/png;base64," + b64encode(encoded.tobytes()).decode("ascii")


def _finite(probability: float) -> float:
    """JSON knows no NaN, which damaged weights may lead to."""
    return float(probability) if math.isfinite(probability) else 0.0
