"""Training as most repositories do it: image files, a DataLoader, small batches, one kernel after another."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.machine import synchronize
from captchabench.models.parts.heads import CTCNetwork
from captchabench.training.network import Network

BATCH = 64
_WARM_UP_STEPS = 2
# A worker holds two batches ready: at the start all of them are full, while the device still warms up.
_WARM_UP_STEPS_A_WORKER = 3


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Image files, decoded one by one, and their targets [N, L], padded with -1."""

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


def usual_images_per_second(
    network: Network, files: ImageFiles, *, steps: int, workers: int, device: torch.device
) -> float:
    """Images a second over `steps` steps of 64, after some to warm up, in which the workers' queue finds its level.

    `nn.CTCLoss` for CTC networks, cross-entropy for the others; `torch.optim.AdamW`; autocast to float16 with a
    gradient scaler on a GPU; clipping; the loss read for the log at every step.
    """
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    warm_up = _WARM_UP_STEPS + _WARM_UP_STEPS_A_WORKER * workers
    loader = DataLoader(
        files,
        BATCH,
        sampler=RandomSampler(files, replacement=True, num_samples=BATCH * (steps + warm_up)),
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    logged = 0.0
    batches = iter(loader)

    def train(count: int) -> None:
        nonlocal logged
        for images, targets in islice(batches, count):
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
                log_probs = network(images.to(device, non_blocking=True))
            loss = _loss(network, log_probs, targets.to(device, non_blocking=True))
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            scaler.step(optimizer)
            scaler.update()
            logged += loss.item()

    train(warm_up)
    synchronize(device)
    started = time.perf_counter()
    train(steps)
    synchronize(device)
    return steps * BATCH / (time.perf_counter() - started)


def _loss(network: Network, log_probs: Tensor, targets: Tensor) -> Tensor:
    """log_probs: [B, P, K]. targets: [B, L] class ids, padded with -1."""
    if isinstance(network, CTCNetwork):
        steps = torch.full((len(log_probs),), log_probs.shape[1], dtype=torch.long)
        lengths = (targets >= 0).sum(dim=1)
        # Padding is never read: PyTorch wants it to be a class all the same.
        return nn.CTCLoss(zero_infinity=True)(log_probs.transpose(0, 1), (targets + 1).clamp(min=1), steps, lengths)
    # The class after the last symbol is "no character here".
    wanted = torch.where(targets < 0, log_probs.shape[2] - 1, targets)
    return nn.functional.nll_loss(log_probs.flatten(0, 1), wanted.flatten())
