"""How fast the recognisers read, in batches and one image at a time, decoding included.

All numbers are of `Recogniser.predict`, from grey pixels to texts and confidences. Throughput: one call on --images
images, median of five calls after two to warm up. Latency: calls on a single image, a different one each time; median
and 95th percentile of --calls calls after 20 to warm up. CTC models are measured with each way of decoding.

Models that segment (hog_svc, char_cnn) are fitted briefly on a few hundred images. The other networks take the same
time with any weights, so theirs are random; --fit-steps trains them first, to check this. The column "symbols" has the
mean length of the texts.

`predict` always uses a GPU if there is one, so the CPU is then measured in a separate process that cannot see it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.decoding import WAYS
from benchmarks.images import draw_images
from benchmarks.machine import machine, seconds
from benchmarks.parameters import Budget, chosen_models, model_parameters
from benchmarks.results import default_path, finish, run, say
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS, build_recogniser
from captchabench.models.base import Recogniser
from captchabench.models.char_cnn import CharCnn
from captchabench.models.neural import CTCRecogniser, NeuralRecogniser
from captchabench.networks.device import choose_device
from captchabench.samples.shards import Samples

_SEED = 0
_ROUNDS = 5
_WARM_UP_CALLS = 20
# Enough for char_cnn to distinguish crops at all.
_SEGMENTED_STEPS = 40


class On(StrEnum):
    """The device to measure."""

    all = "all"
    cpu = "cpu"
    cuda = "cuda"


def main(
    model: Annotated[list[str] | None, typer.Option(help="A model to measure; repeatable. Default: all.")] = None,
    device: Annotated[On, typer.Option(help="The CPU, the GPU, or all that there are.")] = On.all,
    params: Annotated[Budget, typer.Option(help="params.yaml alone, or overridden by params.full.yaml.")] = Budget.full,
    height: Annotated[int, typer.Option(min=16, help="Of the images, in pixels.")] = 40,
    width: Annotated[int, typer.Option(min=32, help="Of the images, in pixels.")] = 150,
    dataset: Annotated[str, typer.Option(help="The dataset that the images imitate.")] = "parsasam",
    images: Annotated[int, typer.Option(min=1, help="Images in one call, for the throughput.")] = 2048,
    calls: Annotated[int, typer.Option(min=1, help="Calls on a single image, for the latency.")] = 300,
    fit_images: Annotated[int, typer.Option(min=10, help="To fit on.")] = 400,
    fit_steps: Annotated[int, typer.Option(min=0, help="Training steps of networks that do not segment.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, only to check that it runs.")] = False,
) -> None:
    """Measure images per second, and milliseconds for a single image, of every recogniser.

    For example: python -m benchmarks.inference --device cpu --params default
    """
    if quick:
        images, calls, fit_images = 16, 3, 60
    offered = [name for name in RECOGNISERS.names() if name != "dummy"]
    names = chosen_models(model, offered)
    available = choose_device().type
    if device is On.cuda and available != "cuda":
        raise InputError("--device cuda: there is no GPU that torch can use; leave it out")
    rows: list[dict[str, Any]] = []
    if available == "cuda" and device is not On.cuda:
        rows += _without_gpu(sys.argv[1:])
    if available == "cpu" or device is not On.cpu:
        say(f"{available}: drawing {images + fit_images:,} images")
        samples = draw_images(dataset, images + fit_images, _SEED).samples(height, width)
        # One thread per model, as in the stages and the demo.
        cv2.setNumThreads(1)
        with threadpool_limits(1):
            for name in names:
                parameters = model_parameters(params)[name]
                for decoding, recogniser in _fitted(name, parameters, samples, fit_images, fit_steps):
                    say(f"{available}: {name} {decoding}")
                    measured = _measure(recogniser, samples.pixels[fit_images:], calls)
                    rows.append({"model": name, "decoding": decoding, "device": available, **measured})
    result: dict[str, Any] = {
        "benchmark": "inference",
        "machine": machine(choose_device()),
        "images": {"height": height, "width": width, "in_one_call": images, "dataset": dataset},
        "calls": calls,
        "warm_up": {"calls": _WARM_UP_CALLS, "whole_batches": 2},
        "fit": {"images": fit_images, "steps": fit_steps},
        "params": params.value,
        "quick": quick,
        "rows": rows,
    }
    notes = [
        f"{result['machine']['device']}; CPU: {result['machine']['processor']}, one thread",
        f"{width}x{height}, parameters: {params}; {images:,} images in one call; {calls} calls on one image",
    ]
    finish(out or default_path("inference"), result, notes, _table(rows, quick))


def _without_gpu(arguments: list[str]) -> list[dict[str, Any]]:
    """The rows of this benchmark, run with the same arguments in a process that sees no GPU."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "cpu.json"
        command = [sys.executable, "-m", "benchmarks.inference", *arguments, "--device", "cpu", "--out", str(path)]
        subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, stdout=subprocess.DEVNULL, check=True)
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _fitted(
    name: str, parameters: dict[str, Any], samples: Samples, fit_images: int, fit_steps: int
) -> Iterator[tuple[str, Recogniser]]:
    """Pairs of a way of decoding and a recogniser that uses it; for models without CTC, one pair with ""."""
    few = samples.where(np.arange(fit_images))
    train, validation = few.where(few.folds != 0), few.where(few.folds == 0)
    recogniser = build_recogniser(name, samples.info.spec, parameters)
    if isinstance(recogniser, NeuralRecogniser):
        steps = _SEGMENTED_STEPS if isinstance(recogniser, CharCnn) else fit_steps
        training = {**parameters.get("training", {}), "steps": max(steps, 1), "batch_size": 32, "evaluations": 1}
        parameters = {**parameters, "training": training}
    ways = {way: {"decoding": decoding} for way, decoding in WAYS.items()}
    for way, decoding in ways.items() if isinstance(recogniser, CTCRecogniser) else [("", {})]:
        recogniser = build_recogniser(name, samples.info.spec, {**parameters, **decoding})
        if not isinstance(recogniser, NeuralRecogniser) or isinstance(recogniser, CharCnn) or fit_steps:
            recogniser.fit(train, validation, seed=_SEED)
        yield way, recogniser


def _measure(recogniser: Recogniser, pixels: NDArray[np.uint8], calls: int) -> dict[str, Any]:
    """Throughput on all of `pixels` [N, H, W] in one call, and latency on one image per call.

    Each call returns texts, so it waits for the device.
    """
    texts = recogniser.predict(pixels).texts
    whole = seconds(lambda: recogniser.predict(pixels), choose_device(), _ROUNDS)
    durations = []
    for call in range(_WARM_UP_CALLS + calls):
        index = call % len(pixels)
        started = time.perf_counter()
        recogniser.predict(pixels[index : index + 1])
        if call >= _WARM_UP_CALLS:
            durations.append(time.perf_counter() - started)
    middle, late = np.percentile(durations, [50, 95])
    return {
        "parameters": recogniser.parameter_count,
        "images_per_second": len(pixels) / whole,
        "latency_median_ms": 1e3 * float(middle),
        "latency_p95_ms": 1e3 * float(late),
        "mean_symbols_read": float(np.mean([len(text) for text in texts])),
    }


def _table(rows: list[dict[str, Any]], quick: bool) -> Table:
    title = "reading, decoding included"
    table = Table(title=f"{title}; quick run, not a measurement" if quick else title)
    for column in ("device", "model", "decoding", "parameters", "images/s", "one image: median", "p95", "symbols"):
        table.add_column(column, justify="left" if column in ("device", "model", "decoding") else "right")
    for row in rows:
        table.add_row(
            row["device"],
            row["model"],
            row["decoding"],
            f"{row['parameters']:,}",
            f"{row['images_per_second']:,.0f}",
            f"{row['latency_median_ms']:.2f} ms",
            f"{row['latency_p95_ms']:.2f} ms",
            f"{row['mean_symbols_read']:.1f}",
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
