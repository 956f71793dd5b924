"""Each recogniser tried on the one device that this process sees: `python -m captchabench.doctor.trial`.

A process of its own, since a GPU that fails may take its process with it. It writes one JSON object a line: the device
first, then each recogniser.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captchabench.config import NormalizeParams
from captchabench.datasets import DATASETS
from captchabench.errors import first_line, visible
from captchabench.models import RECOGNISERS, build_recogniser
from captchabench.models.base import Recogniser
from captchabench.models.neural import NeuralRecogniser
from captchabench.networks.device import choose_device
from captchabench.normalize.images import decode_grey, fit
from captchabench.samples.shards import Samples, ShardInfo
from captchabench.training.acceleration import Acceleration, acceleration_for

_DATASET, _IMAGES, _ONE_BY_ONE = "fournierp", 64, 8
# A GPU is not warm before.
_BUDGETS = {"cpu": {"steps": 4, "batch_size": 8}, "cuda": {"steps": 60, "batch_size": 64}}
# Sums of float32 in another order.
_CONFIDENCE = {"cpu": 1e-5, "cuda": 1e-4}
_MOST_LETTERS = 300


@dataclass(frozen=True)
class Tried:
    """What came of a recogniser.

    training, reading: images a second, all read at once. steps: how they were taken; empty where nothing is trained by
    steps. problem: what is wrong; empty where nothing is.
    """

    model: str
    training: float = 0.0
    reading: float = 0.0
    steps: str = ""
    problem: str = ""


def main(*words: str) -> None:
    """Try every recogniser. `compile`: on compiled steps, too."""
    speak = sys.stdout
    with redirect_stdout(sys.stderr):
        device = choose_device()
        print(json.dumps(_about(device)), file=speak, flush=True)
        samples = _drawn()
        for name in RECOGNISERS.names():
            try:
                tried = _try(name, samples, device, compiled="compile" in words)
            # Of this, too, there is to be a line on the page.
            except Exception as error:
                tried = Tried(name, problem=visible(f"{type(error).__name__}: {first_line(error)}", _MOST_LETTERS))
            print(json.dumps(asdict(tried)), file=speak, flush=True)


def _about(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"device": "cpu", "name": "CPU", "about": "one thread"}
    seen = torch.cuda.get_device_properties(device)
    # So that a device which cannot compute fails here, once.
    torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device)).sum().item()
    about = f"{seen.total_memory / 1e9:.1f} GB, compute capability {seen.major}.{seen.minor}"
    return {"device": "cuda", "name": seen.name, "about": about}


def _drawn() -> Samples:
    """Stand-ins, as `normalize` makes them."""
    dataset, params = DATASETS[_DATASET], NormalizeParams()
    drawings = [dataset.draw(np.random.default_rng([0, index])) for index in range(_IMAGES)]
    return Samples(
        ShardInfo(
            dataset.key,
            "standin",
            dataset.version,
            params.height,
            params.width,
            dataset.alphabet.symbols,
            dataset.min_length,
            dataset.max_length,
        ),
        np.array([f"{index:032x}" for index in range(_IMAGES)], object),
        np.array([drawing.label for drawing in drawings], object),
        np.zeros(_IMAGES, np.int8),
        np.full(_IMAGES, dataset.key, object),
        np.stack([fit(decode_grey(drawing.encoded), params) for drawing in drawings]),
    )


def _try(name: str, samples: Samples, device: torch.device, *, compiled: bool) -> Tried:
    """Train a few steps, read all at once and some one by one."""
    budget: dict[str, Any] = _BUDGETS[device.type]
    deep = issubclass(RECOGNISERS[name], NeuralRecogniser)
    recogniser = build_recogniser(name, samples.info.spec, {"training": {**budget, "evaluations": 1}} if deep else {})
    steps = problem = ""
    images, started = len(samples), time.perf_counter()
    if isinstance(recogniser, NeuralRecogniser):
        usual = acceleration_for(device, images)
        recogniser.acceleration = Acceleration(compile=usual.compile or compiled, graph=usual.graph)
    recogniser.fit(samples, samples, seed=0)
    seconds = time.perf_counter() - started
    if isinstance(recogniser, NeuralRecogniser) and recogniser.trained:
        images, seconds = budget["steps"] * budget["batch_size"], recogniser.trained.spent
        steps = "eager" if recogniser.trained.refused else str(recogniser.acceleration)
        problem = recogniser.trained.refused and f"{recogniser.acceleration} steps: {recogniser.trained.refused}"
    recogniser.predict(samples.pixels)
    started = time.perf_counter()
    recogniser.predict(samples.pixels)
    reading = len(samples) / (time.perf_counter() - started)
    problem = problem or _batch_matters(recogniser, samples.pixels[:_ONE_BY_ONE], _CONFIDENCE[device.type])
    return Tried(name, images / seconds, reading, steps, problem)


def _batch_matters(recogniser: Recogniser, pixels: NDArray[np.uint8], tolerance: float) -> str:
    """How reading one by one differs from reading a batch; empty where it does not."""
    whole = recogniser.predict(pixels)
    single = [recogniser.predict(pixels[place : place + 1]) for place in range(len(pixels))]
    others = sum(one.texts[0] != text for one, text in zip(single, whole.texts, strict=True))
    if others:
        return f"{others} of {len(pixels)} images read otherwise one by one than in a batch"
    off = max(abs(float(one.confidences[0] - sure)) for one, sure in zip(single, whole.confidences, strict=True))
    return "" if off <= tolerance else f"confidences differ by {off:.1e} one by one and in a batch"


if __name__ == "__main__":
    main(*sys.argv[1:])
