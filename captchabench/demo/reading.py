"""Runs the models on batches of uploaded images, in a separate process.

Python runs one thread at a time. In the process of a busy web server, a network would have to wait for the global
interpreter lock after each of its hundreds of small steps.
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

# The time limit for one model on a batch, loading included, and for decoding a batch. A few seconds are usual.
_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One image and the models to read it. image: encoded, or [H, W] uint8 grey. explain: return how each reads it."""

    image: bytes | NDArray[np.uint8]
    models: tuple[str, ...]
    top_k: int = 1
    explain: bool = False


@dataclass(frozen=True)
class Rejection:
    """Why an image was not read. reason: a code from the list of rejects."""

    reason: str
    detail: str


# One reading per model, as `schemas.Reading` describes it, ready for JSON.
Answer: TypeAlias = list[dict[str, Any]] | Rejection


class Stopped(Exception):
    """The process that reads has died or was killed. The next batch gets a new process."""


class LazyModels:
    """Trained models by the name of their folder, each loaded on first use.

    disabled: models that must not be used, with the reason. activity: shared with the process that monitors this one.
    Its first value is the index in `folders` of the model that is running, or -1 while images are decoded. Its second
    value is the start of that on the monotonic clock, or 0 when idle.
    """

    def __init__(
        self,
        folders: dict[str, Path],
        max_pixels: int,
        disabled: Mapping[str, str],
        activity: MutableSequence[float],
    ) -> None:
        self._folders = folders
        self._limits = replace(DEFAULT_LIMITS, pixels=max_pixels)
        self._disabled = disabled
        self._activity = activity
        self._indices = {name: index for index, name in enumerate(folders)}
        self._loaded: dict[str, LoadedRecogniser] = {}

    def read(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers to `jobs`, in order. Jobs with the same model and options are read as one batch."""
        try:
            return self._answers(jobs)
        finally:
            self._activity[1] = 0.0

    def _answers(self, jobs: Sequence[Job]) -> list[Answer]:
        self._note_activity(-1)
        decoded = [decode_or_reject(job.image, self._limits) for job in jobs]
        groups: dict[tuple[str, int, bool], list[int]] = defaultdict(list)
        for index, (job, image) in enumerate(zip(jobs, decoded, strict=True)):
            if not isinstance(image, Rejection):
                for model in job.models:
                    groups[model, job.top_k, job.explain].append(index)
        readings_by_model: list[dict[str, dict[str, Any]]] = [{} for _ in jobs]
        for (model, top_k, explain), indices in groups.items():
            readings = self._read(model, [decoded[index] for index in indices], top_k, explain)
            for index, reading in zip(indices, readings, strict=True):
                readings_by_model[index][model] = reading
        return [
            image if isinstance(image, Rejection) else [by_model[model] for model in job.models]
            for job, image, by_model in zip(jobs, decoded, readings_by_model, strict=True)
        ]

    def _note_activity(self, index: int) -> None:
        self._activity[0] = index
        self._activity[1] = time.monotonic()

    def _read(self, name: str, greys: list[Any], top_k: int, explain: bool) -> list[dict[str, Any]]:
        """The readings of one model. If it fails, they contain the error, so that other models are not affected."""
        if name in self._disabled:
            return _failed(name, self._disabled[name], len(greys))
        self._note_activity(self._indices[name])
        try:
            return self._readings(name, greys, top_k, explain)
        except InputError as error:
            return _failed(name, str(error), len(greys))
        # Out of memory, or a bug that only these weights trigger.
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
    """Runs `LazyModels` in an executor. executor: makes it; by default it is a separate process.

    The process is killed if decoding a batch, or one model on it, takes longer than `timeout` seconds. That model is
    then disabled.
    """

    def __init__(
        self,
        folders: dict[str, Path],
        max_pixels: int,
        executor: Callable[[], Executor] | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> None:
        self.folders = folders
        self._max_pixels = max_pixels
        self._make = executor or self._make_process
        self._timeout = timeout
        self._disabled: dict[str, str] = {}
        self._context = _KillableSpawnContext()
        self._activity: MutableSequence[float] = [-1.0, 0.0]
        self._read: Callable[[Sequence[Job]], list[Answer]] = _read_in_process
        if executor:
            self._read = LazyModels(folders, max_pixels, self._disabled, self._activity).read
        self._executor = self._make()

    async def read(self, jobs: list[Job]) -> list[Answer]:
        """The answers to `jobs`, in order. Raises Stopped if the process died or was killed while working on them."""
        executor = self._executor
        work = asyncio.get_running_loop().run_in_executor(executor, self._read, jobs)
        try:
            while not (await asyncio.wait({work}, timeout=_POLL_SECONDS))[0]:
                self._kill_if_stuck()
            return work.result()
        except BrokenProcessPool:
            # Two batches may be in progress; the other may already have replaced the process.
            if executor is self._executor:
                logger.error("the process that reads images died; starting another")
                executor.shutdown(wait=False)
                self._executor = self._make()
            raise Stopped from None

    async def warm(self) -> None:
        """Start the process in advance, so that the first request does not wait the seconds that this takes."""
        await self.read([])

    def close(self) -> None:
        """Kill the process, even while it works: its results are no longer needed, and it writes no files."""
        self._context.kill_last()
        self._executor.shutdown(cancel_futures=True)

    def _make_process(self) -> Executor:
        self._activity = self._context.RawArray("d", (-1.0, 0.0))
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=self._context,
            initializer=_init_process,
            initargs=(self.folders, self._max_pixels, self._disabled, self._activity),
        )

    def _kill_if_stuck(self) -> None:
        index, since = self._activity
        if not since or time.monotonic() - since <= self._timeout:
            return
        if index >= 0:
            name = list(self.folders)[int(index)]
            self._disabled[name] = f"{name}: took more than {self._timeout:g} s and is disabled; restart the demo"
            logger.error("%s", self._disabled[name])
        self._activity[1] = 0.0
        self._context.kill_last()


class _KillableSpawnContext(SpawnContext):
    """A spawn context that can kill the last process that it started."""

    def __init__(self) -> None:
        super().__init__()
        self._last: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # an attribute in the base class
        """Called by the process pool to start a process."""
        self._last = SpawnProcess(*args, **kwargs)
        return self._last

    def kill_last(self) -> None:
        """Kill the last process, if it is running."""
        if self._last is not None and self._last.pid is not None:
            self._last.kill()


_models: LazyModels | None = None


def _init_process(
    folders: dict[str, Path], max_pixels: int, disabled: Mapping[str, str], activity: MutableSequence[float]
) -> None:
    """The initializer of the process."""
    global _models
    # Ctrl-C signals the whole process group; the server stops this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # OpenMP reads this when torch is imported. By default its idle threads spin on cores that the server needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cv2.setNumThreads(1)
    _models = LazyModels(folders, max_pixels, disabled, activity)


def _read_in_process(jobs: Sequence[Job]) -> list[Answer]:
    assert _models is not None, "initialised"
    return _models.read(jobs)


def decode_or_reject(image: bytes | NDArray[np.uint8], limits: Limits) -> NDArray[np.uint8] | Rejection:
    """An image as [H, W] uint8 grey, or why it cannot be read. One that is decoded already is returned as it is."""
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
    """The probability, or 0 if damaged weights made it NaN or infinite: JSON has neither."""
    return float(probability) if math.isfinite(probability) else 0.0
