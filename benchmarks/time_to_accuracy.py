"""How long a model trains until it reads as well as asked, over several seeds.

After MLPerf's habit the clock runs from the first training step; evaluations are left out of it, and so is preparation
(warm-up, compilation, recording of a CUDA graph): both are listed beside it. A run reaches the target at its first
evaluation on the validation samples that is at or above it, so --evaluations says how finely time is told. Every run
is listed. One that never gets there counts as infinitely long in the median.

Each run goes on to the end of its budget: the learning rate's schedule is laid out for it, so choose a budget that
ends soon after the target. At its end the best weights read the held-out fold, which nothing was chosen on.

The data are shards, as the normalize stage writes them (--data data/shards/parsasam), or images drawn here: stand-ins
where their fonts are installed, else synthetic.
"""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.images import draw_images
from benchmarks.machine import machine
from benchmarks.parameters import Budget, chosen_models, model_parameters
from benchmarks.results import default_path, finish, run, say
from captchabench.data.shards import Samples, read_samples
from captchabench.models import build_recogniser
from captchabench.models.parts.neural import NeuralRecogniser
from captchabench.training.device import choose_device
from captchabench.training.engine import evaluate, train_network
from captchabench.training.feed import TensorSamples
from captchabench.training.settings import TrainingConfig
from captchabench.training.split import held_out, split_rest

# char_cnn's crops, cut beforehand, would be left out of its time.
MODELS = ["cnn_transformer", "crnn", "effnet_b1"]
_DRAWING_SEED = 0


@dataclass(frozen=True)
class TimedRun:
    """One training. Seconds are of steps alone; reached_* are None where the target was not."""

    seed: int
    reached_seconds: float | None
    reached_step: int | None
    train_seconds: float
    prepare_seconds: float
    other_seconds: float
    best_exact: float
    held_out_exact: float
    curve: list[tuple[int, float, float]]  # step, seconds, exact match on validation


def main(
    target: Annotated[float, typer.Option(min=0, max=1, help="Exact match to reach, a share (0.8066).")] = 0.8066,
    model: Annotated[str, typer.Option(help=f"The model: {', '.join(MODELS)}.")] = "cnn_transformer",
    seeds: Annotated[int, typer.Option(min=1, help="Runs, with seeds 0, 1, ...")] = 5,
    data: Annotated[Path | None, typer.Option(help="A folder of shards; images are drawn unless given.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="The held-out fold.")] = 0,
    validation_share: Annotated[float, typer.Option(min=0.001, max=0.5, help="Of the other folds.")] = 0.05,
    params: Annotated[
        Budget, typer.Option(help="params.yaml as it is, or with params.full.yaml over it.")
    ] = Budget.full,
    steps: Annotated[int | None, typer.Option(min=1, help="The budget; the model's own unless given.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Likewise.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-7, max=10, help="Likewise.")] = None,
    augment: Annotated[float | None, typer.Option(min=0, max=3, help="Likewise.")] = None,
    evaluations: Annotated[int, typer.Option(min=1, help="On validation, evenly over the budget.")] = 40,
    dataset: Annotated[str, typer.Option(help="Of drawn images: the look and the alphabet.")] = "parsasam",
    drawn: Annotated[int, typer.Option(min=20, help="Of drawn images: how many.")] = 20_000,
    height: Annotated[int, typer.Option(min=16, help="Of drawn images, in pixels.")] = 40,
    width: Annotated[int, typer.Option(min=32, help="Of drawn images, in pixels.")] = 150,
    out: Annotated[Path | None, typer.Option(help="The JSON file; $OUT or reports/benchmarks unless given.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes: to see that it runs, not how fast.")] = False,
) -> None:
    """Measure seconds of training to an exact match, every run listed.

    For example: python -m benchmarks.time_to_accuracy --data data/shards/parsasam --target 0.8066 --steps 3000
    """
    if quick:
        drawn, seeds, evaluations, validation_share = 100, 2, 2, 0.2
        steps, batch = steps or 4, batch or 16
    chosen_models([model], MODELS)
    if data is None:
        say(f"drawing {drawn:,} images")
    samples = draw_images(dataset, drawn, _DRAWING_SEED).samples(height, width) if data is None else read_samples(data)
    parameters = dict(model_parameters(params)[model])
    asked = {"steps": steps, "batch_size": batch, "learning_rate": learning_rate, "augment": augment}
    changes = {name: value for name, value in asked.items() if value is not None}
    never_early = {"evaluations": evaluations, "patience": 0, "stop_when_perfect": False}
    parameters["training"] = {**parameters["training"], **changes, **never_early}
    runs = []
    for seed in range(seeds):
        taken = _timed_run(model, parameters, samples, fold, validation_share, seed, target)
        runs.append(taken)
        say(f"seed {seed}: {_reached(taken.reached_seconds)}, best exact match {taken.best_exact:.2%}")
    summary = _summary(runs)
    train, validation = split_rest(samples, fold, validation_share, 0)
    result: dict[str, Any] = {
        "benchmark": "time_to_accuracy",
        "machine": machine(choose_device()),
        "data": {
            "dataset": samples.info.dataset,
            "source": samples.info.source,
            "height": samples.info.height,
            "width": samples.info.width,
            "fold": fold,
            "train": len(train),
            "validation": len(validation),
            "held_out": len(held_out(samples, fold)),
        },
        "model": model,
        "parameters": parameters,
        "target": target,
        "quick": quick,
        "summary": summary,
        "runs": [dataclasses.asdict(taken) for taken in runs],
    }
    budget = parameters["training"]
    notes = [
        f"{result['machine']['device']}; {samples.info.dataset} ({samples.info.source}), {samples.info.width}x"
        f"{samples.info.height}, {len(train):,} to train on, {len(validation):,} to validate, fold {fold} held out",
        f"{model}, parameters: {params}, with {', '.join(f'{key} {budget[key]}' for key in sorted(budget))}",
        f"reached by {summary['reached']} of {seeds}; median {_reached(summary['median_seconds'])}, "
        f"fastest {_reached(summary['fastest_seconds'])}, slowest {_reached(summary['slowest_seconds'])}",
    ]
    finish(out or default_path("time_to_accuracy"), result, notes, _table(runs, model, target, quick))


def _timed_run(
    model: str,
    parameters: dict[str, Any],
    samples: Samples,
    fold: int,
    validation_share: float,
    seed: int,
    target: float,
) -> TimedRun:
    train, validation = split_rest(samples, fold, validation_share, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recogniser = build_recogniser(model, samples.info.spec, parameters)
    assert isinstance(recogniser, NeuralRecogniser)
    config: TrainingConfig = recogniser.config.training
    tensors = [recogniser.tensors(part) for part in (train, validation, held_out(samples, fold))]
    started = time.perf_counter()
    taken = train_network(recogniser.network, tensors[0], tensors[1], config, seed=seed, progress=True)
    whole = time.perf_counter() - started
    curve = [(p.step, s, p.validation_exact) for p, s in zip(taken.curve, taken.seconds, strict=True)]
    reached = next(((step, seconds) for step, seconds, exact in curve if exact >= target), (None, None))
    return TimedRun(
        seed=seed,
        reached_seconds=reached[1],
        reached_step=reached[0],
        train_seconds=taken.seconds[-1],
        prepare_seconds=taken.prepare_seconds,
        other_seconds=whole - taken.seconds[-1] - taken.prepare_seconds,
        best_exact=max(exact for _, _, exact in curve),
        held_out_exact=_exact(recogniser, tensors[2]),
        curve=curve,
    )


def _exact(recogniser: NeuralRecogniser, samples: TensorSamples) -> float:
    _, exact = evaluate(recogniser.network, samples.to(choose_device()))
    return exact


def _summary(runs: list[TimedRun]) -> dict[str, float | int | None]:
    """Of all runs, those that did not reach the target counted as infinite: None in the figures."""
    times = [math.inf if r.reached_seconds is None else r.reached_seconds for r in runs]
    figures = {"median_seconds": median(times), "fastest_seconds": min(times), "slowest_seconds": max(times)}
    finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return {"reached": sum(map(math.isfinite, times)), **finite}


def _reached(seconds: float | None) -> str:
    return "not reached" if seconds is None else f"{seconds:.2f} s"


def _table(runs: list[TimedRun], model: str, target: float, quick: bool) -> Table:
    title = f"{model}: training to {target:.2%} exact match on validation"
    table = Table(title=f"{title}; quick run, no measurement" if quick else title)
    columns = ("seed", "to target", "at step", "whole budget", "preparation", "evaluation, copies", "best", "held out")
    for column in columns:
        table.add_column(column, justify="right")
    for taken in runs:
        table.add_row(
            str(taken.seed),
            _reached(taken.reached_seconds),
            "" if taken.reached_step is None else f"{taken.reached_step:,}",
            f"{taken.train_seconds:.2f} s",
            f"{taken.prepare_seconds:.2f} s",
            f"{taken.other_seconds:.2f} s",
            f"{taken.best_exact:.2%}",
            f"{taken.held_out_exact:.2%}",
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
