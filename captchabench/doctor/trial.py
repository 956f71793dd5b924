"""Tries each recogniser on the one device that this process sees: `python -m captchabench.doctor.trial`.

A separate process, since a failing GPU may crash it. It writes one JSON object per line: first the device, then each
recogniser.
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
# A GPU needs more steps to warm up.
_BUDGETS = {"cpu": {"steps": 4, "batch_size": 8}, "cuda": {"steps": 60, "batch_size": 64}}
# Float32 sums in another order differ by rounding.
_TOLERANCES = {"cpu": 1e-5, "cuda": 1e-4}
_MAX_MESSAGE = 300


@dataclass(frozen=True)
class TrialResult:
    """The result of trying one recogniser.

    training, reading: images per second; reading is in one batch. steps: how steps were run; empty for a recogniser
    that is not trained by steps. problem: empty if there is none.
    """

    model: str
    training: float = 0.0
    reading: float = 0.0
    steps: str = ""
    problem: str = ""


def main(*arguments: str) -> None:
    """Try every recogniser. With the argument `compile`, also on compiled steps."""
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        device = choose_device()
        print(json.dumps(_about(device)), file=stdout, flush=True)
        samples = _drawn()
        for name in RECOGNISERS.names():
            try:
                result = _try(name, samples, device, compiled="compile" in arguments)
            # Any failure of a recogniser becomes a line of the output.
            except Exception as error:
                message = f"{type(error).__name__}: {first_line(error)}"
                result = TrialResult(name, problem=visible(message, _MAX_MESSAGE))
            print(json.dumps(asdict(result)), file=stdout, flush=True)


def _about(device: torch.device) -> dict[str, Any]:
    if device.type == "cpu":
        return {"device": "cpu", "name": "CPU", "about": "one thread"}
    properties = torch.cuda.get_device_properties(device)
    # A device that cannot compute fails here, once, and not for each recogniser.
    torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device)).sum().item()
    about = f"{properties.total_memory / 1e9:.1f} GB, compute capability {properties.major}.{properties.minor}"
    return {"device": "cuda", "name": properties.name, "about": about}


def _drawn() -> Samples:
    """Stand-ins as `normalize` would prepare them."""
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


def _try(name: str, samples: Samples, device: torch.device, *, compiled: bool) -> TrialResult:
    """Train for a few steps, then read all images in a batch and some one by one."""
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
        images, seconds = budget["steps"] * budget["batch_size"], recogniser.trained.step_seconds
        steps = "eager" if recogniser.trained.refusal else str(recogniser.acceleration)
        problem = recogniser.trained.refusal and f"{recogniser.acceleration} steps: {recogniser.trained.refusal}"
    recogniser.predict(samples.pixels)
    started = time.perf_counter()
    recogniser.predict(samples.pixels)
    reading = len(samples) / (time.perf_counter() - started)
    problem = problem or _batch_difference(recogniser, samples.pixels[:_ONE_BY_ONE], _TOLERANCES[device.type])
    return TrialResult(name, images / seconds, reading, steps, problem)


def _batch_difference(recogniser: Recogniser, pixels: NDArray[np.uint8], tolerance: float) -> str:
    """How reading one by one differs from reading in a batch; empty if it does not."""
    batch = recogniser.predict(pixels)
    single = [recogniser.predict(pixels[index : index + 1]) for index in range(len(pixels))]
    differing = sum(one.texts[0] != text for one, text in zip(single, batch.texts, strict=True))
    if differing:
        return f"{differing} of {len(pixels)} images read differently one by one and in a batch"
    errors = [abs(float(one.confidences[0] - other)) for one, other in zip(single, batch.confidences, strict=True)]
    return "" if max(errors) <= tolerance else f"confidences differ by {max(errors):.1e} one by one and in a batch"


if __name__ == "__main__":
    main(*sys.argv[1:])
