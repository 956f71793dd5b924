"""The usual training recipe, as in most repositories: image files, a DataLoader, small batches, no fused kernels."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.machine import synchronize
from captchabench.networks.device import training_clock
from captchabench.networks.heads import CTCNetwork
from captchabench.networks.network import Network, same_text

BATCH = 64
_WARM_UP_STEPS = 2
# Each worker prefetches two batches: they are full at the start, while the device warms up.
_WARM_UP_STEPS_PER_WORKER = 3
# The usual CRNN: three blocks at full resolution, two bidirectional LSTM layers.
CRNN = {"channels": [64, 128, 256], "stem_stride": 1, "hidden": 128, "layers": 2, "dropout": 0.1}
_EVALUATION_BATCH = 256


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Image files and their targets [N, L], padded with -1. Items: float32 [1, H, W] from -1 to 1, and [L]."""

    def __init__(self, paths: Sequence[Path], targets: Tensor, height: int, width: int) -> None:
        self._paths = paths
        self._targets = targets
        self._size = (width, height)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self._paths[index]) as image:
            grey = image.convert("L")
        if grey.size != self._size:
            grey = grey.resize(self._size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(grey)).unsqueeze(0)
        return (pixels.float() / 255 - 0.5) / 0.5, self._targets[index]


@dataclass
class UsualRun:
    """A training to a target. seconds: of steps only. curve: step, seconds, exact match on validation."""

    reached_seconds: float | None = None
    reached_step: int | None = None
    seconds: float = 0.0
    steps: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)


def usual_images_per_second(
    network: Network, files: ImageFiles, *, steps: int, workers: int, device: torch.device
) -> float:
    """Images per second over `steps` steps of 64, after a warm-up in which the workers' queue settles.

    `nn.CTCLoss` for CTC networks, cross-entropy for the others; `torch.optim.AdamW`; autocast to float16 with a
    gradient scaler on a GPU; gradient clipping; the loss is copied to the host at every step, as for a log.
    """
    warm_up = _WARM_UP_STEPS + _WARM_UP_STEPS_PER_WORKER * workers
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = _train(network, files, optimizer, steps=steps + warm_up, workers=workers, device=device)
    for _ in islice(losses, warm_up):
        pass
    synchronize(device)
    started = time.perf_counter()
    # `islice` stops before the workers end, which is not to be timed.
    for _ in islice(losses, steps):
        pass
    synchronize(device)
    return steps * BATCH / (time.perf_counter() - started)


def usual_time_to(
    target: float,
    network: Network,
    train: ImageFiles,
    validation: ImageFiles,
    *,
    limit: float,
    every: int,
    device: torch.device,
) -> UsualRun:
    """Train with Adam at 1e-3 until the exact match on `validation` is `target`, or for `limit` seconds.

    every: steps between evaluations, which are not timed. On a CPU the clock counts the processor time of the process,
    reading of files included, so other work on the machine has no effect.
    """
    clock = training_clock(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    run = UsualRun()
    started = clock()
    for _ in _train(network, train, optimizer, steps=None, workers=0, device=device):
        run.steps += 1
        if run.steps % every and run.seconds + clock() - started < limit:
            continue
        synchronize(device)
        run.seconds += clock() - started
        exact = _exact(network, validation, device)
        run.curve.append((run.steps, run.seconds, exact))
        if exact >= target:
            run.reached_seconds, run.reached_step = run.seconds, run.steps
        if exact >= target or run.seconds >= limit:
            break
        started = clock()
    return run


def _train(
    network: Network,
    files: ImageFiles,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int | None,
    workers: int,
    device: torch.device,
) -> Iterator[float]:
    """Train on batches of 64 images and yield the loss of each; without end if `steps` is None."""
    network.to(device).train()
    scaler = GradScaler(device.type, enabled=device.type == "cuda")
    sampler = None if steps is None else RandomSampler(files, replacement=True, num_samples=BATCH * steps)
    loader = DataLoader(
        files,
        BATCH,
        shuffle=sampler is None,
        sampler=sampler,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    while True:
        for images, targets in loader:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
                log_probs = network(images.to(device, non_blocking=True))
            loss = _loss(network, log_probs, targets.to(device, non_blocking=True))
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            scaler.step(optimizer)
            scaler.update()
            yield loss.item()
        if steps is not None:
            return


@torch.no_grad()
def _exact(network: Network, files: ImageFiles, device: torch.device) -> float:
    network.eval()
    right = 0
    for images, targets in DataLoader(files, _EVALUATION_BATCH):
        ids, _ = network.read(network(images.to(device)))
        right += int(same_text(ids, targets.to(device)).sum())
    network.train()
    return right / len(files)


def _loss(network: Network, log_probs: Tensor, targets: Tensor) -> Tensor:
    """The mean loss. log_probs: [B, P, K]. targets: [B, L] class ids, padded with -1."""
    if isinstance(network, CTCNetwork):
        steps = torch.full((len(log_probs),), log_probs.shape[1], dtype=torch.long)
        lengths = (targets >= 0).sum(dim=1)
        # The loss ignores padding, but PyTorch requires it to be a class.
        labels = (targets + 1).clamp(min=1)
        loss: Tensor = nn.CTCLoss(zero_infinity=True)(log_probs.transpose(0, 1), labels, steps, lengths)
        return loss
    # The class after the last symbol means "no character".
    padded = torch.where(targets < 0, log_probs.shape[2] - 1, targets)
    return nn.functional.nll_loss(log_probs.flatten(0, 1), padded.flatten())
