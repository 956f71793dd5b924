"""One engine for every deep model: the fold's tensors live on the device, one loop, best weights kept."""

import copy
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch

from captchabench.errors import InputError
from captchabench.progress import TrainingProgress
from captchabench.training import distributed
from captchabench.training.curve import CurvePoint
from captchabench.training.device import Acceleration, acceleration_for, choose_device, mixed_precision, reading_batch
from captchabench.training.feed import TensorSamples, Window, default_window_bytes, windows
from captchabench.training.network import Network, same_text, standardize
from captchabench.training.schedule import reduce
from captchabench.training.settings import TrainingConfig
from captchabench.training.step import TrainingStep

# Evaluations in a row without a better result, after which the `plateau` schedule cuts the learning rate.
_PLATEAU = 3


@dataclass
class TrainingRun:
    """What a training says of itself.

    prepare_seconds: warm-up, compilation, recording. seconds: for each point of the curve, the seconds spent in steps
    until then, preparation and evaluations left out.
    """

    prepare_seconds: float
    curve: list[CurvePoint] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


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
) -> TrainingRun:
    """Train `network` in place and leave it in evaluation mode on its best weights.

    Best is the highest exact match on `validation`, then the lowest loss there. Equal arguments give equal weights
    on a CPU. acceleration: None takes what pays on the device. window_bytes: the pixels held there at once; None
    takes what fits. Raises InputError where there is nothing to learn from, or where the loss stops being a number.
    """
    if not len(train.images) or not len(validation.images):
        raise InputError(
            f"training needs samples: {len(train.images)} to train on, {len(validation.images)} to choose on"
        )
    device = choose_device()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    validation = validation.to(device)
    if window_bytes is None:
        window_bytes = default_window_bytes(device)
    dealt = windows(train, config, seed=seed, device=device, window_bytes=window_bytes)
    first = next(dealt)
    network.train()
    step = TrainingStep(
        network, config, first, acceleration or acceleration_for(device, config.steps * config.batch_size)
    )
    with torch.random.fork_rng(), TrainingProgress(config.steps, enabled=progress) as bar:
        # Processes that train together start alike, then draw distortions of their own.
        torch.manual_seed(seed + 7919 * distributed.rank())
        run = TrainingRun(step.prepare())
        best = _Best(network)
        marks = {math.ceil(config.steps * k / config.evaluations) for k in range(1, config.evaluations + 1)}
        before, spent, started = 0, 0.0, time.perf_counter()
        for taken in _take_steps(step, chain([first], dealt), config.steps):
            bar.advance()
            if taken not in marks:
                continue
            train_loss = step.loss_sum() / (taken - before)
            spent += time.perf_counter() - started
            before = taken
            if not math.isfinite(train_loss):
                raise InputError(
                    f"training diverged: the loss is {train_loss} at step {taken}; lower training.learning_rate"
                )
            distributed.average(network.buffers())
            validation_loss, exact = evaluate(network, validation)
            epoch = taken * config.batch_size / len(train.images)
            rate = step.rates[taken - 1].item()
            run.curve.append(CurvePoint(taken, epoch, rate, train_loss, validation_loss, exact))
            run.seconds.append(spent)
            bar.report(train_loss, exact, taken * config.batch_size / spent)
            best.offer(exact, validation_loss)
            if config.schedule == "plateau" and best.stale and best.stale % _PLATEAU == 0:
                reduce(step.rates, taken)
            if (config.patience and best.stale >= config.patience) or (config.stop_when_perfect and exact == 1.0):
                break
            network.train()
            started = time.perf_counter()
    step.optimizer.release()
    best.restore()
    network.eval()
    return run


def _take_steps(step: TrainingStep, dealt: Iterable[Window], steps: int) -> Iterator[int]:
    """Run `steps` steps over the windows; yield the number taken after each."""
    taken = 0
    for window in dealt:
        step.load(window)
        for _ in range(min(len(window.order), steps - taken)):
            step.run()
            taken += 1
            yield taken


class _Best:
    """The best weights seen."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._score = (-1.0, -math.inf)
        self._weights = copy.deepcopy(network.state_dict())
        # Evaluations since they were seen.
        self.stale = 0

    def offer(self, exact: float, loss: float) -> None:
        """Keep the network's weights if they score better than those kept."""
        self.stale += 1
        if (exact, -loss) > self._score:
            self._score, self.stale = (exact, -loss), 0
            self._weights = copy.deepcopy(self._network.state_dict())

    def restore(self) -> None:
        """Put them back."""
        self._network.load_state_dict(self._weights)


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
        with mixed_precision(device):
            log_probs = network(images.contiguous(memory_format=torch.channels_last))
        losses = network.losses(log_probs, targets, (targets >= 0).sum(dim=1))
        ids, _ = network.read(log_probs)
        totals += torch.stack([losses.sum(), same_text(ids, targets).sum()])
    distributed.average([totals])
    loss, exact = (totals / len(samples.images)).tolist()
    return loss, exact
