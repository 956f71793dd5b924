"""One training step: from sample numbers to changed weights, all on the device."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from captchabench.training import distributed
from captchabench.training.augmentation import augment
from captchabench.training.device import Acceleration, precision_for
from captchabench.training.feed import Window
from captchabench.training.network import Network, standardize
from captchabench.training.optimizer import FlatOptimizer
from captchabench.training.schedule import guides, learning_rates
from captchabench.training.settings import TrainingConfig

# Steps before a CUDA graph is recorded, so that libraries have chosen their kernels and buffers.
_WARM_UP_STEPS = 3


class TrainingStep:
    """Gather, standardize, augment, forward, loss, backward, clip, update: once each call of `run`.

    Which samples, which learning rate, which guide: the step reads from tables on the device, at counters that it
    moves on itself. So nothing is handed over from the host, nothing read back, and the whole of it fits in a CUDA
    graph. Random numbers come from torch's global generators.
    """

    def __init__(self, network: Network, config: TrainingConfig, window: Window, acceleration: Acceleration) -> None:
        device = window.order.device
        self.device = device
        self.network = network
        self.optimizer = FlatOptimizer(network, config)
        self.rates = learning_rates(config).to(device)
        self._guides = guides(config).to(device) if config.guide else None
        self._augment = config.augment
        self._bfloat16 = precision_for(device, config.precision) == "bfloat16"
        self._window = window
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._row = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss_sum = torch.zeros((), device=device)
        self._losses: Callable[..., Tensor] = self._mean_loss
        if acceleration.compile:
            self._losses = torch.compile(self._mean_loss, dynamic=False)
        self._graph = torch.cuda.CUDAGraph() if acceleration.graph else None
        self._warms_up = acceleration.compile or acceleration.graph

    def prepare(self) -> float:
        """Compile, and record the graph, on the first samples; return the seconds that took.

        Leaves weights, statistics, counters and random numbers as they were.
        """
        started = time.perf_counter()
        if not self._warms_up:
            return 0.0
        device = self.device
        kept = [tensor.clone() for tensor in (*self.shared(), *self.own())]
        host_state = torch.get_rng_state()
        device_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        if self._graph is None:
            self._run_once()
        else:
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP_STEPS):
                    # The tables may be shorter than the warm-up.
                    self._step.zero_()
                    self._row.zero_()
                    self._run_once()
            torch.cuda.current_stream(device).wait_stream(side)
            # Other threads, which send the next window or watch over NCCL, may go on meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._run_once()
        for tensor, value in zip((*self.shared(), *self.own()), kept, strict=True):
            tensor.copy_(value)
        torch.set_rng_state(host_state)
        if device_state is not None:
            torch.cuda.set_rng_state(device_state, device)
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    def load(self, window: Window, row: int) -> None:
        """Train on `window` from its `row` on; it has the shape of the window before."""
        if self._step.is_cuda:
            # Made on another stream: their memory must not be given away before this one is done with them.
            for tensor in window.tensors():
                tensor.record_stream(torch.cuda.current_stream())
        if self._graph is None:
            self._window = window
        elif window is not self._window:
            # The graph reads from fixed addresses.
            for kept, sent in zip(self._window.tensors(), window.tensors(), strict=True):
                kept.copy_(sent)
        self._row.fill_(row)

    def run(self) -> None:
        """Take one step. Does not wait for the device."""
        if self._graph is not None:
            self._graph.replay()
        else:
            self._run_once()

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def shared(self) -> list[Tensor]:
        """The tensors that change and are the same in all processes that train together."""
        return [*self.optimizer.state(), self.rates]

    def own(self) -> list[Tensor]:
        """The tensors that change and are this process's own. Random numbers are apart."""
        return [*self.network.buffers(), self._step, self._row, self._loss_sum]

    def loss_sum(self) -> float:
        """The sum of the steps' mean losses since this was last asked. Waits for the device."""
        distributed.average([self._loss_sum])
        total = self._loss_sum.item()
        self._loss_sum.zero_()
        return total

    def _run_once(self) -> None:
        guide = None if self._guides is None else self._guides.index_select(0, self._step)[0]
        rate = self.rates.index_select(0, self._step)[0]
        chosen = self._window.order.index_select(0, self._row)[0]
        self.optimizer.zero_grad()
        loss = self._losses(self._window.samples.images, self._window.samples.targets, chosen, guide)
        loss.backward()
        distributed.average([self.optimizer.gradients])
        self.optimizer.step(rate)
        self._loss_sum += loss.detach()
        self._step += 1
        self._row += 1

    def _mean_loss(self, images: Tensor, targets: Tensor, chosen: Tensor, guide: Tensor | None) -> Tensor:
        batch = standardize(images.index_select(0, chosen))
        if self._augment:
            batch = augment(batch, self._augment, self.network.pieces)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self._bfloat16):
            log_probs = self.network(batch.contiguous(memory_format=torch.channels_last))
        wanted = targets.index_select(0, chosen)
        return self.network.losses(log_probs, wanted, (wanted >= 0).sum(dim=1), guide).mean()
