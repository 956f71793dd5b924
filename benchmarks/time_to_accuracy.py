"""Time to accuracy: seconds of training until a target exact match, ours and the usual recipe, with several seeds.

As in MLPerf, the clock starts at the first training step. Evaluations and preparation (warm-up, compilation, recording
of a CUDA graph) are not counted and are listed separately. On a CPU the clock counts the seconds of the one thread that
trains, so other work on the machine has no effect. A run reaches the target at its first evaluation on the validation
samples that is at or above it. All runs are listed. A run that never reaches it counts as infinitely long.

Ours runs to the end of its budget, for which its learning rate is scheduled: choose a budget that ends soon after the
target. At the end the best weights read the held-out fold, which was used for no choice.

Marks are further values of exact match, such as figures that others published for parsasam. For each mark the table
shows the images and the core-minutes that a run took to it.

The usual recipe is that of most public repositories: a CRNN of 64, 128 and 256 channels and two bidirectional LSTM
layers on the original image files, a DataLoader, Adam at 1e-3, batches of 64, nn.CTCLoss. It stops at the target or
after --usual-seconds.

The data are the outputs of the ingest and normalize stages (--raw data/raw/parsasam.parquet --data
data/shards/parsasam), or images drawn here: stand-ins if their fonts are installed, else synthetic ones.
"""

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks import usual_recipe
from benchmarks.images import draw_images
from benchmarks.machine import machine
from benchmarks.originals import original_images
from benchmarks.parameters import Budget, cell_parameters, chosen_models
from benchmarks.results import default_path, finish, run, say
from benchmarks.usual_recipe import CRNN, ImageFiles, UsualRun, usual_time_to
from captchabench.cells.split import held_out, split_rest
from captchabench.config import merged
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.models.neural import NeuralRecogniser, encode_labels
from captchabench.networks.device import choose_device, one_thread, training_clock
from captchabench.normalize.images import decode_grey
from captchabench.samples.shards import Samples, TextSpec, read_samples
from captchabench.training.engine import evaluate, train_network
from captchabench.training.settings import TrainingConfig

# Without char_cnn: its time would not include the segmentation into crops.
MODELS = ["cnn_transformer", "crnn", "effnet_b1"]
_DRAWING_SEED = 0
# Exact match published for parsasam, see results/published.csv.
_PUBLISHED = [0.5306, 0.8066]


@dataclass(frozen=True)
class TimedRun:
    """One training of ours. Seconds count steps only; reached_* are None if the target was not reached."""

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
    target: Annotated[float, typer.Option(min=0, max=1, help="Exact match to reach, from 0 to 1.")] = 0.3,
    mark: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="Further values to report. Default: 0.5306 and 0.8066.")
    ] = None,
    model: Annotated[str, typer.Option(help=f"Our model: {', '.join(MODELS)}.")] = "cnn_transformer",
    seeds: Annotated[int, typer.Option(min=0, help="Runs of ours, with seeds 0, 1, ...")] = 3,
    usual_seeds: Annotated[int, typer.Option(min=0, help="Runs of the usual recipe, with seeds 0, 1, ...")] = 3,
    usual_seconds: Annotated[float, typer.Option(min=0, help="Limit of a run of the usual recipe.")] = 3600,
    usual_every: Annotated[int, typer.Option(min=1, help="Steps between its evaluations.")] = 100,
    raw: Annotated[Path | None, typer.Option(help="The raw file from which the shards were made.")] = None,
    data: Annotated[Path | None, typer.Option(help="A folder of shards. Default: images are drawn.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="The held-out fold.")] = 0,
    validation_share: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Share of the other folds used for validation.")
    ] = 0.05,
    params: Annotated[
        Budget, typer.Option(help="params.yaml alone, or overridden by params.full.yaml.")
    ] = Budget.default,
    steps: Annotated[int | None, typer.Option(min=1, help="Our budget. Default: that of the model.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Our batch size. Default: likewise.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-7, max=10, help="Default: likewise.")] = None,
    augment: Annotated[float | None, typer.Option(min=0, max=3, help="Default: likewise.")] = None,
    evaluations: Annotated[int, typer.Option(min=1, help="Evaluations of ours, evenly over the budget.")] = 40,
    dataset: Annotated[str, typer.Option(help="The dataset that drawn images imitate.")] = "parsasam",
    drawn: Annotated[int, typer.Option(min=20, help="Number of drawn images.")] = 20_000,
    height: Annotated[int, typer.Option(min=16, help="Height of drawn images, in pixels.")] = 32,
    width: Annotated[int, typer.Option(min=32, help="Width of drawn images, in pixels.")] = 100,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, only to check that it runs.")] = False,
) -> None:
    """Measure seconds of training to an exact match, ours and the usual recipe's, every run listed.

    For example: python -m benchmarks.time_to_accuracy --raw data/raw/parsasam.parquet --data data/shards/parsasam
    """
    if quick:
        drawn, seeds, evaluations, validation_share = 100, 2, 2, 0.2
        usual_seeds, usual_seconds, usual_every = min(usual_seeds, 1), 1, 1
        steps, batch = steps or 4, batch or 16
    marks = mark or _PUBLISHED
    chosen_models([model], MODELS)
    if (data is None) != (raw is None):
        raise InputError("--raw and --data: give both, or neither for drawn images")
    if data is None or raw is None:
        say(f"drawing {drawn:,} images")
        pictures = draw_images(dataset, drawn, _DRAWING_SEED)
        samples = pictures.samples(height, width)
        encoded = dict(zip(samples.sample_ids, (drawing.encoded for drawing in pictures.drawings), strict=True))
    else:
        samples = read_samples(data)
        encoded = original_images(raw, frozenset(samples.sample_ids))
    parameters = cell_parameters(params, model, samples.info.dataset)
    options = {"steps": steps, "batch_size": batch, "learning_rate": learning_rate, "augment": augment}
    changes = {name: value for name, value in options.items() if value is not None}
    without_early_stop = {"evaluations": evaluations, "patience": 0, "stop_when_perfect": False}
    parameters = merged(parameters, {"training": changes | without_early_stop})
    runs = []
    for seed in range(seeds):
        timed = _timed_run(model, parameters, samples, fold, validation_share, seed, target)
        runs.append(timed)
        say(f"ours, seed {seed}: {_reached(timed.reached_seconds)}, best exact match {timed.best_exact:.2%}")
    usual = []
    for seed in range(usual_seeds):
        usual.append(_usual_run(samples, encoded, fold, validation_share, seed, target, usual_seconds, usual_every))
        say(f"usual, seed {seed}: {_reached(usual[-1].reached_seconds)}, {usual[-1].seconds:,.0f} s in all")
    summary = _summary([timed.reached_seconds for timed in runs])
    usual_summary = _summary([timed.reached_seconds for timed in usual])
    train, validation = split_rest(samples, fold, validation_share, 0)
    result: dict[str, Any] = {
        "benchmark": "time_to_accuracy",
        "machine": {**machine(choose_device()), "threads": 1},
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
        "marks": marks,
        "quick": quick,
        "summary": summary,
        "usual_summary": usual_summary,
        "usual_limit_seconds": usual_seconds,
        "runs": [dataclasses.asdict(timed) for timed in runs],
        "usual_runs": [dataclasses.asdict(timed) for timed in usual],
    }
    budget = parameters["training"]
    notes = [
        f"{result['machine']['device']}; {samples.info.dataset} ({samples.info.source}), {len(train):,} images for "
        f"training, {len(validation):,} for validation, fold {fold} held out",
        f"ours: {model} at {samples.info.width}x{samples.info.height}, parameters: {params}, with "
        f"{', '.join(f'{key} {budget[key]}' for key in sorted(budget))}",
        f"reached by {summary['reached']} of {seeds}; median {_reached(summary['median_seconds'])}; usual recipe: "
        f"{usual_summary['reached']} of {usual_seeds}; "
        + (_ratio(summary, usual_summary, usual_seconds) if usual else "not run"),
    ]
    title = f"Training to {target:.2%} exact match on validation"
    table = Table(title=f"{title}; quick run, not a measurement" if quick else title)
    _fill(table, runs, usual, model, marks, budget["batch_size"])
    finish(out or default_path("time_to_accuracy"), result, notes, table)


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
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(seed)
        recogniser = build_recogniser(model, samples.info.spec, parameters)
        assert isinstance(recogniser, NeuralRecogniser)
        config: TrainingConfig = recogniser.config.training
        recogniser.warm_start(recogniser.network)
        tensors = [recogniser.tensors(part) for part in (train, validation, held_out(samples, fold))]
        clock = training_clock(choose_device())
        started = clock()
        trained = train_network(recogniser.network, tensors[0], tensors[1], config, seed=seed, progress=True)
        whole = clock() - started
        held_out_exact = evaluate(recogniser.network, tensors[2].to(choose_device()))[1]
    curve = [(p.step, s, p.validation_exact) for p, s in zip(trained.curve, trained.curve_seconds, strict=True)]
    reached = next(((step, seconds) for step, seconds, exact in curve if exact >= target), (None, None))
    return TimedRun(
        seed=seed,
        reached_seconds=reached[1],
        reached_step=reached[0],
        train_seconds=trained.curve_seconds[-1],
        prepare_seconds=trained.prepare_seconds,
        other_seconds=max(0.0, whole - trained.curve_seconds[-1] - trained.prepare_seconds),
        best_exact=max(exact for _, _, exact in curve),
        held_out_exact=held_out_exact,
        curve=curve,
    )


def _usual_run(
    samples: Samples,
    encoded: Mapping[str, bytes],
    fold: int,
    validation_share: float,
    seed: int,
    target: float,
    limit: float,
    every: int,
) -> UsualRun:
    """The usual recipe on the same training and validation images, as files in their original size."""
    spec = samples.info.spec
    height, width = decode_grey(encoded[samples.sample_ids[0]]).shape
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), one_thread():
        parts = []
        for part in split_rest(samples, fold, validation_share, seed):
            paths = [Path(folder) / name for name in part.sample_ids]
            for path in paths:
                path.write_bytes(encoded[path.name])
            parts.append(ImageFiles(paths, encode_labels(spec.alphabet, part.labels, spec.max_length), height, width))
        torch.manual_seed(seed)
        original = TextSpec(spec.alphabet, spec.min_length, spec.max_length, height, width)
        network = build_recogniser("crnn", original, CRNN)
        assert isinstance(network, NeuralRecogniser)
        return usual_time_to(target, network.network, *parts, limit=limit, every=every, device=choose_device())


def _summary(times: list[float | None]) -> dict[str, float | int | None]:
    """Statistics of all runs. Those that did not reach the target are infinite; an infinite result is None."""
    finite = [math.inf if seconds is None else seconds for seconds in times] or [math.inf]
    figures = {"median_seconds": median(finite), "fastest_seconds": min(finite), "slowest_seconds": max(finite)}
    shown = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return {"reached": sum(seconds is not None for seconds in times), **shown}


def _ratio(ours: Mapping[str, Any], usual: Mapping[str, Any], limit: float) -> str:
    """The ratio of the medians, as a phrase; "at least" if the usual recipe did not reach the target."""
    if ours["median_seconds"] is None:
        return "no ratio"
    least = usual["median_seconds"] is None
    times = (limit if least else usual["median_seconds"]) / ours["median_seconds"]
    return f"ours is {'at least ' if least else ''}{times:.1f} times as fast"


def _reached(seconds: float | None) -> str:
    return "not reached" if seconds is None else f"{seconds:,.1f} s"


def _to_mark(curve: Sequence[tuple[int, float, float]], mark: float, batch: int) -> str:
    """The training until the first evaluation at or above `mark`. curve: steps, seconds, exact match."""
    found = next(((step, seconds) for step, seconds, exact in curve if exact >= mark), None)
    return "not reached" if found is None else f"{found[0] * batch:,} images, {found[1] / 60:.1f} min"


def _fill(
    table: Table, runs: list[TimedRun], usual: list[UsualRun], model: str, marks: Sequence[float], batch: int
) -> None:
    table.add_column("recipe")
    columns = ["seed", "to target", "at step", "steps", "training, s", "preparation", "best", "held out"]
    for column in columns + [f"to {mark:.2%}" for mark in marks]:
        table.add_column(column, justify="right")
    for timed in runs:
        table.add_row(
            f"ours, {model}",
            str(timed.seed),
            _reached(timed.reached_seconds),
            "" if timed.reached_step is None else f"{timed.reached_step:,}",
            f"{timed.curve[-1][0]:,}",
            f"{timed.train_seconds:,.1f}",
            f"{timed.prepare_seconds:.1f}",
            f"{timed.best_exact:.2%}",
            f"{timed.held_out_exact:.2%}",
            *(_to_mark(timed.curve, mark, batch) for mark in marks),
        )
    for seed, usual_run in enumerate(usual):
        table.add_row(
            "usual",
            str(seed),
            _reached(usual_run.reached_seconds),
            "" if usual_run.reached_step is None else f"{usual_run.reached_step:,}",
            f"{usual_run.steps:,}",
            f"{usual_run.seconds:,.1f}",
            "",
            f"{max((exact for _, _, exact in usual_run.curve), default=0.0):.2%}",
            "",
            *(_to_mark(usual_run.curve, mark, usual_recipe.BATCH) for mark in marks),
        )


if __name__ == "__main__":
    run(main, __doc__ or "")
