"""The training loop of every deep model: steps, evaluations, checkpoints, and the best weights at the end."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain

import torch

from captchabench.errors import InputError
from captchabench.networks.device import choose_device, float32, keep_freed_memory, reading_batch, training_clock
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
# Processes that train together agree on a checkpoint only at every such step, since agreeing takes time.
_STEPS_BETWEEN_DECISIONS = 20


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
    """Train `network` in place; it ends in evaluation mode with its best weights.

    Best is the highest exact match on `validation`, then the lowest loss there. Equal arguments give equal weights
    on a CPU, whether or not the training was resumed from one of its `checkpoints`. acceleration: None for what is
    fastest on the device. window_bytes: pixels to hold on the device at once; None for what fits. Raises InputError if
    there are no samples, or if the loss is not finite.
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
    resumed_after = snapshot.steps_done if snapshot else 0
    later_windows = windows(
        train, config, seed=seed, device=device, window_bytes=window_bytes, steps_done=resumed_after
    )
    first_window = next(later_windows)
    network.train()
    step = TrainingStep(network, config, first_window)
    acceleration = acceleration or acceleration_for(device, config.steps * config.batch_size)
    with torch.random.fork_rng(), TrainingProgress(config.steps, enabled=progress) as bar:
        # Processes that train together start with equal weights, but each distorts its images in its own way.
        torch.manual_seed(seed + 7919 * distributed.rank())
        prepared = prepare(step, acceleration)
        if prepared.refusal and distributed.rank() == 0:
            print(f"{acceleration} steps are not used, training is slower: {prepared.refusal}", flush=True)
        run = TrainingRun(prepared.seconds, prepared.refusal, training_clock(device))
        best = Best(network)
        if snapshot:
            snapshot.restore(step, run, best)
        evaluation_steps = {math.ceil(config.steps * k / config.evaluations) for k in range(1, config.evaluations + 1)}
        bar.advance(resumed_after)
        run.start_clock()
        for steps_done in _run_steps(step, chain([first_window], later_windows), resumed_after, config.steps):
            bar.advance()
            if steps_done in evaluation_steps:
                epoch = steps_done * config.batch_size / len(train.images)
                train_loss, validation_loss, exact = _add_curve_point(step, run, steps_done, epoch, validation)
                bar.report(train_loss, exact, steps_done * config.batch_size / run.step_seconds)
                best.offer(exact, validation_loss)
                if config.schedule == "plateau" and best.stale and best.stale % _PLATEAU == 0:
                    reduce(step.rates, steps_done)
                if config.patience and best.stale >= config.patience:
                    break
                if config.stop_when_perfect and exact == 1.0:
                    break
                network.train()
                run.start_clock()
            if checkpoints and steps_done < config.steps and _checkpoint_is_due(checkpoints, steps_done):
                step.wait()
                run.stop_clock(steps_done)
                write_snapshot(checkpoints, step, run, best)
                run.start_clock()
    step.optimizer.release()
    best.restore()
    network.eval()
    return run


def _run_steps(step: TrainingStep, windows: Iterable[Window], steps_done: int, steps: int) -> Iterator[int]:
    """Run the steps after `steps_done` up to `steps`, window by window. Yields the number of steps done after each."""
    for window in windows:
        row = steps_done % len(window.order)
        step.load(window, row)
        for _ in range(min(len(window.order) - row, steps - steps_done)):
            step.run()
            steps_done += 1
            yield steps_done


def _add_curve_point(
    step: TrainingStep, run: TrainingRun, steps_done: int, epoch: float, validation: TensorSamples
) -> tuple[float, float, float]:
    """Evaluate the network and add the result to the run's curve: training loss, validation loss, exact match.

    Stops the run's clock and leaves the network in evaluation mode. Raises InputError if the loss is not finite.
    """
    train_loss = step.loss_sum() / (steps_done - run.last_evaluation)
    run.stop_clock(steps_done)
    if not math.isfinite(train_loss):
        raise InputError(
            f"training diverged: the loss is {train_loss} at step {steps_done}; lower training.learning_rate"
        )
    distributed.average(step.network.buffers())
    validation_loss, exact = evaluate(step.network, validation)
    rate = step.rates[steps_done - 1].item()
    run.curve.append(CurvePoint(steps_done, epoch, rate, train_loss, validation_loss, exact))
    run.curve_seconds.append(run.step_seconds)
    return train_loss, validation_loss, exact


def _checkpoint_is_due(checkpoints: Checkpoints, steps_done: int) -> bool:
    """Whether to write a checkpoint now. Processes that train together decide alike."""
    alone = distributed.world_size() == 1
    may_decide = alone or steps_done % _STEPS_BETWEEN_DECISIONS == 0
    return may_decide and distributed.decision_of_first(checkpoints.due())


@torch.no_grad()
def evaluate(network: Network, samples: TensorSamples) -> tuple[float, float]:
    """Mean loss and exact match over the samples. Leaves the network in evaluation mode."""
    network.eval()
    device = samples.images.device
    batch_size = reading_batch(*samples.images.shape[-2:])
    # Sum of losses and number of exact readings, kept on the device until the end.
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
