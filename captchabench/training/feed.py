"""From the training samples, wherever they are, to windows of them on the device."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor

from captchabench.networks.device import memory_share
from captchabench.training import distributed
from captchabench.training.settings import TrainingConfig

# Samples that stay together from pass to pass. Shards are in the order of a hash: neighbours are strangers.
_BLOCK = 64
_SHARE_OF_MEMORY = 0.4


@dataclass(frozen=True)
class TensorSamples:
    """Samples as the engine wants them. images: [N, H, W] uint8. targets: [N, L] int64 class ids padded with -1."""

    images: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "TensorSamples":
        """The same samples on `device`."""
        return TensorSamples(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Window:
    """Samples on the device, and which of them each step takes: [steps, batch] int64."""

    samples: TensorSamples
    order: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, targets, order."""
        return self.samples.images, self.samples.targets, self.order


def default_window_bytes(device: torch.device) -> int | None:
    """Bytes of pixels to hold on the device at once; None on a CPU, where they are at hand already."""
    if device.type != "cuda":
        return None
    return int(_SHARE_OF_MEMORY * memory_share() * torch.cuda.mem_get_info(device)[0])


def windows(
    samples: TensorSamples,
    config: TrainingConfig,
    *,
    seed: int,
    device: torch.device,
    window_bytes: int | None,
    taken: int = 0,
) -> Iterator[Window]:
    """Deal out `samples` for `config.steps` steps, one shuffled pass after another.

    taken: steps that were taken before; the first window is that of the next.

    Where their pixels fit into `window_bytes` (None: any do) there is one window, the whole set. Otherwise the set
    streams through: while one window is trained on, a thread gathers the next in pinned memory and sends it. All
    windows have one shape. Equal arguments give equal windows. Processes that train together each get their share of
    every batch.
    """
    generator = torch.Generator().manual_seed(seed)
    per_image = samples.images[0].numel()
    if window_bytes is None or samples.images.numel() <= window_bytes:
        passes = math.ceil(config.steps * config.batch_size / len(samples.images))
        order = torch.cat([torch.randperm(len(samples.images), generator=generator) for _ in range(passes)])
        chosen = order[: config.steps * config.batch_size].view(config.steps, config.batch_size)
        yield Window(samples.to(device), distributed.share(chosen).to(device))
        return

    # Two windows are on the device at a time: the one in use and the one on its way.
    rows = max(window_bytes // per_image // 2, config.batch_size, _BLOCK)
    steps = rows // config.batch_size
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch(rows_of_window: Tensor, order: Tensor) -> Window:
        images, targets = samples.images[rows_of_window], samples.targets[rows_of_window]
        if stream is None:
            return Window(TensorSamples(images, targets), order)
        with torch.cuda.stream(stream):
            sent = [t.pin_memory().to(device, non_blocking=True) for t in (images, targets, order)]
        # The thread waits, not the training: when it returns, the copies have arrived.
        stream.synchronize()
        return Window(TensorSamples(sent[0], sent[1]), sent[2])

    with ThreadPoolExecutor(1) as pool:
        dealt = _rows_of_windows(len(samples.images), rows, generator)
        plans = ((r, torch.randperm(rows, generator=generator)) for r in dealt)
        pending = None
        for plan, shuffled in islice(plans, taken // steps, math.ceil(config.steps / steps)):
            order = distributed.share(shuffled[: steps * config.batch_size].view(steps, config.batch_size))
            ready, pending = pending, pool.submit(fetch, plan, order)
            if ready is not None:
                yield ready.result()
        if pending is not None:
            yield pending.result()


def _rows_of_windows(samples: int, rows: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The samples of one window after another: [rows] each, whole passes over shuffled blocks without an end."""
    blocks = torch.arange(samples).split(_BLOCK)
    rest = torch.empty(0, dtype=torch.int64)
    for _ in count():
        shuffled = torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])
        rest = torch.cat([rest, shuffled])
        while len(rest) >= rows:
            yield rest[:rows]
            rest = rest[rows:]
