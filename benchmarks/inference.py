"""How fast the recognisers read: many images at once, and one at a time, decoding included.

Every figure is of `Recogniser.predict`, from grey pixels to texts and confidences. Throughput is of one call on
--images images, the median of five after two to warm up. Latency is of calls on one image each, other images in turn:
median and 95th percentile of --calls, after 20 to warm up. CTC models are measured with each way of decoding.

What segments (hog_svc, char_cnn) is fitted briefly on a few hundred images. The other networks do the same work
whatever their weights, and start at random; --fit-steps trains them first, to see that. The column "symbols" has the
mean length of the texts that were read.

Where there is a GPU, a process of its own that does not see it measures the CPU: predict takes the GPU where it can.
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
# Enough for char_cnn to tell crops from each other at all.
_SEGMENTED_STEPS = 40


class On(StrEnum):
    """Where to measure."""

    all = "all"
    cpu = "cpu"
    cuda = "cuda"


def main(
    model: Annotated[
        list[str] | None, typer.Option(help="A model to measure; repeat for several; all unless given.")
    ] = None,
    device: Annotated[On, typer.Option(help="Where: all is the CPU, and the GPU where there is one.")] = On.all,
    params: Annotated[
        Budget, typer.Option(help="params.yaml as it is, or with params.full.yaml over it.")
    ] = Budget.full,
    height: Annotated[int, typer.Option(min=16, help="Of the images, in pixels.")] = 40,
    width: Annotated[int, typer.Option(min=32, help="Of the images, in pixels.")] = 150,
    dataset: Annotated[str, typer.Option(help="Whose look and alphabet the images have.")] = "parsasam",
    images: Annotated[int, typer.Option(min=1, help="In one call, for the throughput.")] = 2048,
    calls: Annotated[int, typer.Option(min=1, help="On one image each, for the latency.")] = 300,
    fit_images: Annotated[int, typer.Option(min=10, help="To fit on.")] = 400,
    fit_steps: Annotated[int, typer.Option(min=0, help="Training steps of the networks that read whole images.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The JSON file; $OUT or reports/benchmarks unless given.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes: to see that it runs, not how fast.")] = False,
) -> None:
    """Measure images a second, and milliseconds an image, of every recogniser.

    For example: python -m benchmarks.inference --device cpu --params default
    """
    if quick:
        images, calls, fit_images = 16, 3, 60
    offered = [name for name in RECOGNISERS.names() if name != "dummy"]
    names = chosen_models(model, offered)
    there = choose_device().type
    if device is On.cuda and there != "cuda":
        raise InputError("--device cuda: there is no GPU that torch can use; leave it out")
    rows: list[dict[str, Any]] = []
    if there == "cuda" and device is not On.cuda:
        rows += _without_gpu(sys.argv[1:])
    if there == "cpu" or device is not On.cpu:
        say(f"{there}: drawing {images + fit_images:,} images")
        samples = draw_images(dataset, images + fit_images, _SEED).samples(height, width)
        # As stages and the demo read: a model on one thread.
        cv2.setNumThreads(1)
        with threadpool_limits(1):
            for name in names:
                parameters = model_parameters(params)[name]
                for decoding, recogniser in _fitted(name, parameters, samples, fit_images, fit_steps):
                    say(f"{there}: {name} {decoding}")
                    measured = _measure(recogniser, samples.pixels[fit_images:], calls)
                    rows.append({"model": name, "decoding": decoding, "device": there, **measured})
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


def _without_gpu(words: list[str]) -> list[dict[str, Any]]:
    """The rows of this benchmark, called with the same words where no GPU is seen."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "cpu.json"
        command = [sys.executable, "-m", "benchmarks.inference", *words, "--device", "cpu", "--out", str(path)]
        subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, stdout=subprocess.DEVNULL, check=True)
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _fitted(
    name: str, parameters: dict[str, Any], samples: Samples, fit_images: int, fit_steps: int
) -> Iterator[tuple[str, Recogniser]]:
    """The recogniser, ready to read; a CTC model once for each way of decoding, named."""
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
    """Throughput on all of `pixels` [N, H, W] in one call, latency on them one by one; texts leave the device, so
    that each call waits for it."""
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
    table = Table(title=f"{title}; quick run, no measurement" if quick else title)
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
