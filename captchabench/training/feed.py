"""Training samples, sent to the device in windows that fit into its memory."""

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

# Samples that stay together in every pass. Shards are sorted by a hash, so neighbours are unrelated.
_BLOCK = 64
_SHARE_OF_MEMORY = 0.4


@dataclass(frozen=True)
class TensorSamples:
    """Samples as tensors. images: [N, H, W] uint8. targets: [N, L] int64 class ids padded with -1."""

    images: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "TensorSamples":
        """The same samples on `device`."""
        return TensorSamples(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Window:
    """Samples on the device. order: the indices of the samples of each step, [steps, batch] int64."""

    samples: TensorSamples
    order: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, targets, order."""
        return self.samples.images, self.samples.targets, self.order


def default_window_bytes(device: torch.device) -> int | None:
    """Bytes of pixels to hold on the device at once; None on a CPU, which has them in memory already."""
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
    steps_done: int = 0,
) -> Iterator[Window]:
    """Yield windows of `samples` for `config.steps` steps, in one shuffled pass after another.

    window_bytes: pixels to hold on the device at once; None for no limit. steps_done: steps that were taken before; the
    first window is that of the next step. Equal arguments give equal windows. Processes that train together each get
    their share of every batch.

    If the pixels fit into `window_bytes`, there is one window: the whole set. Otherwise the set is streamed: while one
    window is trained on, a thread copies the next one to pinned memory and sends it. All windows have one shape.
    """
    generator = torch.Generator().manual_seed(seed)
    per_image = samples.images[0].numel()
    if window_bytes is None or samples.images.numel() <= window_bytes:
        passes = math.ceil(config.steps * config.batch_size / len(samples.images))
        order = torch.cat([torch.randperm(len(samples.images), generator=generator) for _ in range(passes)])
        batches = order[: config.steps * config.batch_size].view(config.steps, config.batch_size)
        yield Window(samples.to(device), distributed.share(batches).to(device))
        return

    # Two windows are on the device at a time: the one in use and the next one.
    size = max(window_bytes // per_image // 2, config.batch_size, _BLOCK)
    steps = size // config.batch_size  # of one window
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch(indices: Tensor, order: Tensor) -> Window:
        images, targets = samples.images[indices], samples.targets[indices]
        if stream is None:
            return Window(TensorSamples(images, targets), order)
        with torch.cuda.stream(stream):
            sent = [t.pin_memory().to(device, non_blocking=True) for t in (images, targets, order)]
        # This thread waits, not the training: when it returns, the copies have arrived.
        stream.synchronize()
        return Window(TensorSamples(sent[0], sent[1]), sent[2])

    with ThreadPoolExecutor(1) as pool:
        contents = _window_contents(len(samples.images), size, generator)
        plans = ((indices, torch.randperm(size, generator=generator)) for indices in contents)
        pending = None
        for indices, shuffled in islice(plans, steps_done // steps, math.ceil(config.steps / steps)):
            order = distributed.share(shuffled[: steps * config.batch_size].view(steps, config.batch_size))
            ready, pending = pending, pool.submit(fetch, indices, order)
            if ready is not None:
                yield ready.result()
        if pending is not None:
            yield pending.result()


def _window_contents(samples: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The indices of the samples of each window, [size] int64: endless passes over blocks in shuffled order."""
    blocks = torch.arange(samples).split(_BLOCK)
    rest = torch.empty(0, dtype=torch.int64)
    for _ in count():
        shuffled = torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])
        rest = torch.cat([rest, shuffled])
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
