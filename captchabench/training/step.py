"""One training step: from sample numbers to changed weights, all on the device."""

from collections.abc import Callable

import torch
from torch import Tensor

from captchabench.networks.device import precision_for
from captchabench.networks.network import Network, standardize
from captchabench.training import distributed
from captchabench.training.augmentation import augment
from captchabench.training.feed import Window
from captchabench.training.optimizer import FlatOptimizer
from captchabench.training.schedule import guides, learning_rates
from captchabench.training.settings import TrainingConfig

MeanLoss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


class TrainingStep:
    """Gather, standardize, augment, forward, loss, backward, clip, update: once per call of `run`.

    The samples, the learning rate and the guide of a step are read from tables on the device, at counters that the
    step itself increments. So a step takes nothing from the host and returns nothing to it, and a CUDA graph can
    contain it. Random numbers come from torch's global generators.
    """

    def __init__(self, network: Network, config: TrainingConfig, window: Window) -> None:
        device = window.order.device
        self.device = device
        self.network = network
        self.optimizer = FlatOptimizer(network, config)
        self.rates = learning_rates(config).to(device)
        self._guides = guides(config).to(device) if config.guide else None
        self._augment, self._mirror = config.augment, config.mirror
        self._bfloat16 = precision_for(device, config.precision) == "bfloat16"
        self._window = window
        # The counters: into the tables of all steps, and into the rows of the window.
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._row = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss_sum = torch.zeros((), device=device)
        self._accelerated_step: Callable[[], None] | None = None

    def load(self, window: Window, row: int) -> None:
        """Continue on `window` from its `row` on. All windows of a training have one shape."""
        if self._step.is_cuda:
            # The window was made on another stream. Its memory must not be reused before this stream is done with it.
            for tensor in window.tensors():
                tensor.record_stream(torch.cuda.current_stream())
        if not self.accelerated:
            self._window = window
        elif window is not self._window:
            # A recorded graph reads from fixed addresses.
            for target, source in zip(self._window.tensors(), window.tensors(), strict=True):
                target.copy_(source)
        self._row.fill_(row)

    def run(self) -> None:
        """Run one step. Does not wait for the device."""
        if self._accelerated_step is None:
            self.run_eagerly()
        else:
            self._accelerated_step()

    def run_eagerly(self, mean_loss: MeanLoss | None = None) -> None:
        """Run one step, kernel by kernel. mean_loss: a compiled `mean_loss`; None for the eager one."""
        rate = self.rates.index_select(0, self._step)[0]
        self._loss_sum += self.backward(mean_loss or self.mean_loss)
        distributed.average([self.optimizer.gradients])
        self.optimizer.step(rate)
        self._step += 1
        self._row += 1

    def backward(self, mean_loss: MeanLoss) -> Tensor:
        """Compute the gradients of this process's part of the batch. Returns its mean loss, a scalar."""
        guide = None if self._guides is None else self._guides.index_select(0, self._step)[0]
        indices = self._window.order.index_select(0, self._row)[0]
        self.optimizer.zero_grad()
        loss = mean_loss(self._window.samples.images, self._window.samples.targets, indices, guide)
        loss.backward()
        return loss.detach()

    def mean_loss(self, images: Tensor, targets: Tensor, indices: Tensor, guide: Tensor | None) -> Tensor:
        """The mean loss of the samples at `indices` [B]: a scalar. guide: see `ctc_losses`."""
        batch = standardize(images.index_select(0, indices))
        if self._augment or self._mirror:
            batch = augment(batch, self._augment, self.network.pieces, mirror=self._mirror)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self._bfloat16):
            log_probs = self.network(batch.contiguous(memory_format=torch.channels_last))
        labels = targets.index_select(0, indices)
        return self.network.losses(log_probs, labels, (labels >= 0).sum(dim=1), guide).mean()

    def loss_sum(self) -> float:
        """The sum of the steps' mean losses since the last call. Waits for the device."""
        distributed.average([self._loss_sum])
        total = self._loss_sum.item()
        self._loss_sum.zero_()
        return total

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def accelerated(self) -> bool:
        """Whether `run` runs something other than `run_eagerly`."""
        return self._accelerated_step is not None

    def accelerate(self, accelerated_step: Callable[[], None]) -> None:
        """Let `run` call `accelerated_step`, which must do the same as `run_eagerly`."""
        self._accelerated_step = accelerated_step

    def shared_state(self) -> list[Tensor]:
        """The tensors that change and are equal in all processes that train together."""
        return [*self.optimizer.state(), self.rates]

    def process_state(self) -> list[Tensor]:
        """The tensors that change and differ between processes, without the random generators."""
        return [*self.network.buffers(), self._step, self._row, self._loss_sum]

    def remember(self) -> Callable[[], None]:
        """Copy the whole state: weights, statistics, counters, generators. Returns a function that restores it."""
        state = [*self.shared_state(), *self.process_state()]
        copies = [tensor.clone() for tensor in state]
        host_generator, device_generator = torch.get_rng_state(), self._device_generator()

        def restore() -> None:
            for tensor, copy in zip(state, copies, strict=True):
                tensor.copy_(copy)
            torch.set_rng_state(host_generator)
            if device_generator is not None:
                torch.cuda.set_rng_state(device_generator, self.device)

        return restore

    def perturb_weights(self, share: float) -> None:
        """Change each weight by at most `share` of itself, at random. The global generators stay as they are."""
        generator = torch.Generator(self.device).manual_seed(0)
        values = self.optimizer.values
        values *= 1 + share * (2 * torch.rand(values.shape, generator=generator, device=self.device) - 1)

    def seek(self, share: float) -> None:
        """Set the counters to a share, below 1, of all steps and of the window."""
        self._step.fill_(int(share * len(self.rates)))
        self._row.fill_(int(share * len(self._window.order)))

    def learned(self) -> dict[str, Tensor]:
        """Copies of the weights and of the batch statistics, each as one vector."""
        weights = [weight.detach().flatten() for weight in self.network.parameters()]
        statistics = [buffer.flatten() for buffer in self.network.buffers() if buffer.is_floating_point()]
        vectors = {"weights": weights, "batch statistics": statistics}
        return {name: torch.cat(parts) for name, parts in vectors.items() if parts}

    def counters(self) -> dict[str, Tensor]:
        """Copies of the counters, and of the states of the random generators: integers, so they compare exactly."""
        generators = [torch.get_rng_state(), self._device_generator()]
        states = torch.cat([state for state in generators if state is not None])
        return {"counters": torch.cat([self._step, self._row]), "random generators": states}

    def _device_generator(self) -> Tensor | None:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
