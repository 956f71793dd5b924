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
    """Gather, standardize, augment, forward, loss, backward, clip, update: once each call of `run`.

    Which samples, which learning rate, which guide: the step reads from tables on the device, at counters that it
    moves on itself. So nothing is handed over from the host, nothing read back, and the whole of it fits in a CUDA
    graph. Random numbers come from torch's global generators.
    """

    def __init__(self, network: Network, config: TrainingConfig, window: Window) -> None:
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
        self._take: Callable[[], None] | None = None

    def remember(self) -> Callable[[], None]:
        """Keep weights, statistics, counters and random numbers as they are; what is returned puts them back."""
        changing = [*self.shared(), *self.own()]
        kept = [tensor.clone() for tensor in changing]
        host, device = torch.get_rng_state(), self._device_generator()

        def restore() -> None:
            for tensor, value in zip(changing, kept, strict=True):
                tensor.copy_(value)
            torch.set_rng_state(host)
            if device is not None:
                torch.cuda.set_rng_state(device, self.device)

        return restore

    def disturb(self, share: float) -> None:
        """Change each weight by at most `share` of itself, at random, without a number from the global generators."""
        generator = torch.Generator(self.device).manual_seed(0)
        values = self.optimizer.values
        values *= 1 + share * (2 * torch.rand(values.shape, generator=generator, device=self.device) - 1)

    def load(self, window: Window, row: int) -> None:
        """Train on `window` from its `row` on; it has the shape of the window before."""
        if self._step.is_cuda:
            # Made on another stream: their memory must not be given away before this one is done with them.
            for tensor in window.tensors():
                tensor.record_stream(torch.cuda.current_stream())
        if not self.accelerated:
            self._window = window
        elif window is not self._window:
            # A recorded graph reads from fixed addresses.
            for kept, sent in zip(self._window.tensors(), window.tensors(), strict=True):
                kept.copy_(sent)
        self._row.fill_(row)

    def run(self) -> None:
        """Take one step. Does not wait for the device."""
        if self._take is None:
            self.run_eagerly()
        else:
            self._take()

    @property
    def accelerated(self) -> bool:
        """Whether steps are taken in another way than eagerly."""
        return self._take is not None

    def run_by(self, take: Callable[[], None]) -> None:
        """Let `take`, which does what `run_eagerly` does, take the steps from here on."""
        self._take = take

    def run_eagerly(self, mean_loss: MeanLoss | None = None) -> None:
        """Take one step, a kernel after another. mean_loss: what stands in for `mean_loss`, compiled."""
        rate = self.rates.index_select(0, self._step)[0]
        self._loss_sum += self.backward(mean_loss or self.mean_loss)
        distributed.average([self.optimizer.gradients])
        self.optimizer.step(rate)
        self._step += 1
        self._row += 1

    def backward(self, mean_loss: MeanLoss) -> Tensor:
        """Put the gradients of this process's part of the batch in place; return its mean loss, a scalar."""
        guide = None if self._guides is None else self._guides.index_select(0, self._step)[0]
        chosen = self._window.order.index_select(0, self._row)[0]
        self.optimizer.zero_grad()
        loss = mean_loss(self._window.samples.images, self._window.samples.targets, chosen, guide)
        loss.backward()
        return loss.detach()

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

    def go_to(self, share: float) -> None:
        """Move the counters on to a share, below 1, of all steps and of the window."""
        self._step.fill_(int(share * len(self.rates)))
        self._row.fill_(int(share * len(self._window.order)))

    def learned(self) -> dict[str, Tensor]:
        """Copies of the weights, and of the statistics of batches, a vector each."""
        weights = [weight.detach().flatten() for weight in self.network.parameters()]
        statistics = [buffer.flatten() for buffer in self.network.buffers() if buffer.is_floating_point()]
        vectors = {"changes of weights": weights, "changes of batch statistics": statistics}
        return {name: torch.cat(parts) for name, parts in vectors.items() if parts}

    def places(self) -> dict[str, Tensor]:
        """Copies of what is moved on by whole numbers: the counters, and the states of the generators."""
        generators = [torch.get_rng_state(), self._device_generator()]
        drawn = torch.cat([state for state in generators if state is not None])
        return {"counters": torch.cat([self._step, self._row]), "random numbers": drawn}

    def _device_generator(self) -> Tensor | None:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def mean_loss(self, images: Tensor, targets: Tensor, chosen: Tensor, guide: Tensor | None) -> Tensor:
        """The mean loss of the samples `chosen` [B]: a scalar."""
        batch = standardize(images.index_select(0, chosen))
        if self._augment:
            batch = augment(batch, self._augment, self.network.pieces)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self._bfloat16):
            log_probs = self.network(batch.contiguous(memory_format=torch.channels_last))
        wanted = targets.index_select(0, chosen)
        return self.network.losses(log_probs, wanted, (wanted >= 0).sum(dim=1), guide).mean()
