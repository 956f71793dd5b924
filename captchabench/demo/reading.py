"""The models at work: batches of uploaded images in, readings out, in a process that does nothing else.

A process of its own, because Python runs one thread at a time: beside a busy web server in the same process, a
network waits for its turn after each of its hundreds of small steps.
"""

import asyncio
import logging
import math
import multiprocessing
import os
import signal
import threading
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from captchabench.errors import InputError
from captchabench.inference.decoding import DEFAULT_LIMITS, Limits, Unreadable, decode
from captchabench.inference.loaded import LoadedRecogniser, load_recogniser
from captchabench.inference.results import Explanation, Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One encoded image, and who is to read it. `explain`: say how, too."""

    image: bytes
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
    """The process that reads has died. The next batch gets a new one."""


class Bench:
    """Trained models by the name of their folder, each loaded when it is first asked for."""

    def __init__(self, folders: dict[str, Path], max_pixels: int) -> None:
        self._folders = folders
        self._limits = replace(DEFAULT_LIMITS, pixels=max_pixels)
        self._loaded: dict[str, LoadedRecogniser] = {}

    def read(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers to `jobs`, in their order. Images that one model reads in the same way are read together."""
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

    def _read(self, name: str, greys: list[Any], top_k: int, explain: bool) -> list[dict[str, Any]]:
        try:
            model = self._load(name)
        except InputError as error:
            # The models beside it can be used all the same.
            failed: dict[str, Any] = {"model": name, "text": None, "confidence": None, "alternatives": [], "how": None}
            return [{**failed, "error": str(error)} for _ in greys]
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
    """Runs a Bench elsewhere. `executor` makes the place where; by default a process of its own."""

    def __init__(
        self,
        folders: dict[str, Path],
        max_pixels: int,
        executor: Callable[[], Executor] | None = None,
    ) -> None:
        self._make = executor or partial(
            ProcessPoolExecutor,
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(folders, max_pixels),
        )
        self._read: Callable[[Sequence[Job]], list[Answer]] = _read_here
        if executor:
            self._read = Bench(folders, max_pixels).read
        self._executor = self._make()

    async def read(self, jobs: list[Job]) -> list[Answer]:
        """The answers to `jobs`, in their order. Raises Stopped if the process died over them."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, jobs)
        except BrokenProcessPool:
            logger.error("the process that reads images died; starting another")
            self._executor.shutdown(wait=False)
            self._executor = self._make()
            raise Stopped from None

    async def warm(self) -> None:
        """Start the process, which takes seconds: not at the expense of the first visitor."""
        await self.read([])

    def close(self) -> None:
        """End the process once it has read what it was given."""
        self._executor.shutdown(cancel_futures=True)


_bench: Bench | None = None


def _begin(folders: dict[str, Path], max_pixels: int) -> None:
    """What the process does first."""
    global _bench
    # Ctrl-C reaches the whole group; the server says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # OpenMP reads this when a model brings torch. Its threads would wait by spinning, on cores that the server needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cv2.setNumThreads(1)
    _bench = Bench(folders, max_pixels)


def _end_with_parent() -> None:
    """A killed server must not leave this process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_here(jobs: Sequence[Job]) -> list[Answer]:
    assert _bench is not None, "begun"
    return _bench.read(jobs)


def _decode(image: bytes, limits: Limits) -> np.ndarray | Rejection:
    try:
        return decode(image, limits)
    except Unreadable as error:
        return Rejection(str(error.reason), error.detail)


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


def _as_uri(picture: np.ndarray) -> str:
    done, encoded = cv2.imencode(".png", picture)
    assert done, "OpenCV writes PNG"
    return "data:image/png;base64," + b64encode(encoded.tobytes()).decode("ascii")


def _finite(probability: float) -> float:
    """JSON knows no NaN, which damaged weights may lead to."""
    return float(probability) if math.isfinite(probability) else 0.0
