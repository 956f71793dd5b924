"""One engine for every deep model: the fold's tensors live on the device, one loop, best weights kept."""

import math
import time
from collections.abc import Iterable, Iterator
from itertools import chain

import torch

from captchabench.errors import InputError
from captchabench.networks.device import choose_device, float32, keep_freed_memory, reading_batch
from captchabench.networks.network import Network, same_text, standardize
from captchabench.progress import TrainingProgress
from captchabench.training import distributed
from captchabench.training.acceleration import Acceleration, acceleration_for, prepare
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from captchabench.training.feed import TensorSamples, Window, default_window_bytes, windows
from captchabench.training.run import Best, TrainingRun
from captchabench.training.schedule import reduce
from captchabench.training.settings import TrainingConfig
from captchabench.training.snapshot import read_snapshot, write_snapshot
from captchabench.training.step import TrainingStep

# Evaluations in a row without a better result, after which the `plateau` schedule cuts the learning rate.
_PLATEAU = 3
_STEPS_BETWEEN_QUESTIONS = 20


def train_network(
    network: Network,
    train: TensorSamples,
    validation: TensorSamples,
    config: TrainingConfig,
    *,
    seed: int,
    acceleration: Acceleration | None = None,
    window_bytes: int | None = None,
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
) -> TrainingRun:
    """Train `network` in place and leave it in evaluation mode on its best weights.

    Best is the highest exact match on `validation`, then the lowest loss there. Equal arguments give equal weights
    on a CPU, whether or not a training went on from one of its `checkpoints`. acceleration: None takes what pays on the
    device. window_bytes: the pixels held there at once; None takes what fits. Raises InputError where there is nothing
    to learn from, or where the loss stops being a number.
    """
    if not len(train.images) or not len(validation.images):
        raise InputError(
            f"training needs samples: {len(train.images)} to train on, {len(validation.images)} to choose on"
        )
    device = choose_device()
    if device.type == "cpu":
        keep_freed_memory()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
    validation = validation.to(device)
    if window_bytes is None:
        window_bytes = default_window_bytes(device)
    snapshot = read_snapshot(checkpoints) if checkpoints else None
    dealt = windows(
        train,
        config,
        seed=seed,
        device=device,
        window_bytes=window_bytes,
        taken=snapshot.taken if snapshot else 0,
    )
    first = next(dealt)
    network.train()
    step = TrainingStep(network, config, first)
    acceleration = acceleration or acceleration_for(device, config.steps * config.batch_size)
    with torch.random.fork_rng(), TrainingProgress(config.steps, enabled=progress) as bar:
        # Processes that train together start alike, then draw distortions of their own.
        torch.manual_seed(seed + 7919 * distributed.rank())
        prepared = prepare(step, acceleration)
        if prepared.refused and distributed.rank() == 0:
            print(f"training goes on eagerly, without {acceleration} steps: {prepared.refused}", flush=True)
        # A CPU's steps are counted in the seconds of its thread: what else runs on the machine does not show in them.
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        run = TrainingRun(prepared.seconds, prepared.refused, clock)
        best = Best(network)
        if snapshot:
            snapshot.restore(step, run, best)
        marks = {math.ceil(config.steps * k / config.evaluations) for k in range(1, config.evaluations + 1)}
        bar.advance(run.taken)
        run.start_clock()
        for taken in _take_steps(step, chain([first], dealt), run.taken, config.steps):
            bar.advance()
            if taken in marks:
                epoch = taken * config.batch_size / len(train.images)
                train_loss, validation_loss, exact = _look(step, run, taken, epoch, validation)
                bar.report(train_loss, exact, taken * config.batch_size / run.spent)
                best.offer(exact, validation_loss)
                if config.schedule == "plateau" and best.stale and best.stale % _PLATEAU == 0:
                    reduce(step.rates, taken)
                if config.patience and best.stale >= config.patience:
                    break
                if config.stop_when_perfect and exact == 1.0:
                    break
                network.train()
                run.start_clock()
            if checkpoints and taken < config.steps and _is_due(checkpoints, taken):
                step.wait()
                run.stop_clock(taken)
                write_snapshot(checkpoints, step, run, best)
                run.start_clock()
    step.optimizer.release()
    best.restore()
    network.eval()
    return run


def _take_steps(step: TrainingStep, dealt: Iterable[Window], taken: int, steps: int) -> Iterator[int]:
    """Run steps over the windows, from the one after `taken` to the last; yield the number taken after each."""
    for window in dealt:
        row = taken % len(window.order)
        step.load(window, row)
        for _ in range(min(len(window.order) - row, steps - taken)):
            step.run()
            taken += 1
            yield taken


def _look(
    step: TrainingStep, run: TrainingRun, taken: int, epoch: float, validation: TensorSamples
) -> tuple[float, float, float]:
    """Evaluate the network after `taken` steps: training loss, validation loss, exact match.

    They become the next point of the run's curve; its clock is left stopped.
    """
    train_loss = step.loss_sum() / (taken - run.evaluated)
    run.stop_clock(taken)
    if not math.isfinite(train_loss):
        raise InputError(f"training diverged: the loss is {train_loss} at step {taken}; lower training.learning_rate")
    distributed.average(step.network.buffers())
    validation_loss, exact = evaluate(step.network, validation)
    rate = step.rates[taken - 1].item()
    run.curve.append(CurvePoint(taken, epoch, rate, train_loss, validation_loss, exact))
    run.seconds.append(run.spent)
    return train_loss, validation_loss, exact


def _is_due(checkpoints: Checkpoints, taken: int) -> bool:
    """Whether to keep the state now. Processes that train together do not ask each other at every step."""
    alone = distributed.world_size() == 1
    return (alone or taken % _STEPS_BETWEEN_QUESTIONS == 0) and distributed.agreed(checkpoints.due())


@torch.no_grad()
def evaluate(network: Network, samples: TensorSamples, batch_size: int = 512) -> tuple[float, float]:
    """Mean loss and share of exactly read samples; leaves the network in evaluation mode."""
    network.eval()
    device = samples.images.device
    batch_size = reading_batch(batch_size)
    # Loss and number of exact readings, on the device until all is read.
    totals = torch.zeros(2, device=device)
    for start in range(0, len(samples.images), batch_size):
        targets = samples.targets[start : start + batch_size]
        images = standardize(samples.images[start : start + batch_size])
        with float32():
            log_probs = network(images.contiguous(memory_format=torch.channels_last))
        losses = network.losses(log_probs, targets, (targets >= 0).sum(dim=1))
        ids, _ = network.read(log_probs)
        totals += torch.stack([losses.sum(), same_text(ids, targets).sum()])
    distributed.average([totals])
    loss, exact = (totals / len(samples.images)).tolist()
    return loss, exact
