"""One engine for every deep model: the fold's tensors live on the device, one loop, best weights kept."""

import copy
import math
import time
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from captchabench.config import Between, NotNegative, Positive
from captchabench.errors import InputError
from captchabench.progress import TrainingProgress
from captchabench.training.augmentation import augment
from captchabench.training.curve import CurvePoint
from captchabench.training.device import choose_device, mixed_precision
from captchabench.training.network import Network, same_text, standardize


@dataclass(frozen=True)
class TrainingConfig:
    """The budget and the optimiser (AdamW). A budget is in steps, so that small and large datasets cost alike."""

    steps: Positive = 3000
    batch_size: Positive = 128
    learning_rate: Annotated[float, Between(1e-7, 10)] = 2e-3
    weight_decay: NotNegative = 0.01
    clip_norm: Annotated[float, Between(1e-3)] = 2.0
    schedule: Literal["one_cycle", "plateau"] = "one_cycle"
    augment: Annotated[float, Between(0, 3)] = 0.0
    evaluations: Positive = 10
    # Evaluations without a better result after which training stops; 0 never stops early.
    patience: Annotated[int, Between(0)] = 0
    # Stop once validation is read without a mistake: saves time where a dataset is easy, costs annealing.
    stop_when_perfect: bool = False


@dataclass(frozen=True)
class TensorSamples:
    """Samples as the engine wants them. images: [N, H, W] uint8. targets: [N, L] int64 class ids padded with -1."""

    images: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "TensorSamples":
        """The same samples on `device`."""
        return TensorSamples(self.images.to(device), self.targets.to(device))

    @property
    def lengths(self) -> Tensor:
        """The label lengths: [N] int64."""
        return (self.targets >= 0).sum(dim=1)


def train_network(
    network: Network,
    train: TensorSamples,
    validation: TensorSamples,
    config: TrainingConfig,
    *,
    seed: int,
    progress: bool = False,
) -> list[CurvePoint]:
    """Train `network` in place and leave it in evaluation mode on its best weights; return its learning curve.

    Best is the highest exact match on `validation`, then the lowest loss there. Equal arguments give equal weights
    on a CPU. Raises InputError where there is nothing to learn from, or where the loss stops being a number.
    """
    if not len(train.images) or not len(validation.images):
        raise InputError(
            f"training needs samples: {len(train.images)} to train on, {len(validation.images)} to choose on"
        )
    device = choose_device()
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train, validation = train.to(device), validation.to(device)
    lengths = train.lengths
    generator = torch.Generator(device).manual_seed(seed)
    order = _order(len(train.images), config.steps, config.batch_size, seed).to(device)

    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(
        # A shorter memory than Adam's usual 0.999 leaves CTC's opening plateau in fewer steps.
        _parameter_groups(network, config.weight_decay),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        fused=fused,
    )
    one_cycle = plateau = None
    if config.schedule == "one_cycle":
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            config.learning_rate,
            total_steps=config.steps + 1,
            pct_start=0.15,
            cycle_momentum=False,
        )
    else:
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=2)

    curve: list[CurvePoint] = []
    best_score = (-1.0, -math.inf)
    best_weights = copy.deepcopy(network.state_dict())
    stale = 0
    marks = {math.ceil(config.steps * k / config.evaluations) for k in range(1, config.evaluations + 1)}
    running = torch.zeros((), device=device)
    since = 0
    started = time.perf_counter()
    with TrainingProgress(config.steps, enabled=progress) as bar:
        network.train()
        for step in range(1, config.steps + 1):
            chosen = order[step - 1]
            images = standardize(train.images[chosen])
            if config.augment:
                images = augment(images, config.augment, generator)
            images = images.contiguous(memory_format=torch.channels_last)
            with mixed_precision(device):
                log_probs = network(images)
            loss = network.losses(log_probs, train.targets[chosen], lengths[chosen]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            optimizer.step()
            if one_cycle is not None:
                one_cycle.step()
            running += loss.detach()
            since += 1
            bar.advance()
            if step not in marks:
                continue

            rate = optimizer.param_groups[0]["lr"]
            validation_loss, exact = evaluate(network, validation)
            train_loss = running.item() / since
            if not math.isfinite(train_loss):
                raise InputError(
                    f"training diverged: the loss is {train_loss} at step {step}; lower training.learning_rate"
                )
            epoch = step * config.batch_size / len(train.images)
            curve.append(CurvePoint(step, epoch, rate, train_loss, validation_loss, exact))
            bar.report(train_loss, exact, step * config.batch_size / (time.perf_counter() - started))
            running.zero_()
            since = 0
            if plateau is not None:
                plateau.step(exact)
            if (exact, -validation_loss) > best_score:
                best_score, stale = (exact, -validation_loss), 0
                best_weights = copy.deepcopy(network.state_dict())
            else:
                stale += 1
                if config.patience and stale >= config.patience:
                    break
            if config.stop_when_perfect and exact == 1.0:
                break
            network.train()
    network.load_state_dict(best_weights)
    network.eval()
    return curve


@torch.no_grad()
def evaluate(network: Network, samples: TensorSamples, batch_size: int = 512) -> tuple[float, float]:
    """Mean loss and share of exactly read samples; leaves the network in evaluation mode."""
    network.eval()
    device = samples.images.device
    loss = torch.zeros((), device=device)
    right = torch.zeros((), device=device)
    for start in range(0, len(samples.images), batch_size):
        targets = samples.targets[start : start + batch_size]
        images = standardize(samples.images[start : start + batch_size])
        with mixed_precision(device):
            log_probs = network(images)
        loss += network.losses(log_probs, targets, (targets >= 0).sum(dim=1)).sum()
        ids, _ = network.read(log_probs)
        right += same_text(ids, targets).sum()
    return loss.item() / len(samples.images), right.item() / len(samples.images)


def _order(samples: int, steps: int, batch_size: int, seed: int) -> Tensor:
    """Which samples each step takes: [steps, batch_size], one shuffled pass over the data after another."""
    generator = torch.Generator().manual_seed(seed)
    passes = math.ceil(steps * batch_size / samples)
    order = torch.cat([torch.randperm(samples, generator=generator) for _ in range(passes)])
    return order[: steps * batch_size].view(steps, batch_size)


def _parameter_groups(network: Network, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms and other vectors do not."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
