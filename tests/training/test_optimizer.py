"""The flat optimiser and the learning rates agree with torch.optim."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from captchabench.networks.network import Network
from captchabench.training.optimizer import FlatOptimizer, orthogonalised
from captchabench.training.schedule import guides, learning_rates, reduce
from captchabench.training.settings import TrainingConfig


class Small(Network):
    """A stem, two hidden layers, one of which stacks three matrices, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.convolution = nn.Conv2d(4, 6, 2)
        self.linear = nn.Linear(6 * 4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.linear(self.convolution(self.stem(images)).flatten(1)))
        return scores

    def losses(self, log_probs: Tensor, targets: Tensor, lengths: Tensor, guide: Tensor | None = None) -> Tensor:
        return log_probs.square().mean(dim=1)

    def read(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        return log_probs.argmax(dim=1), log_probs.amax(dim=1)

    def hidden_weights(self) -> list[tuple[nn.Parameter, int]]:
        return [(self.linear.get_parameter("weight"), 3), (self.convolution.get_parameter("weight"), 1)]


def network() -> Small:
    torch.manual_seed(0)
    small = Small()
    small.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
    return small


@pytest.mark.parametrize("clip_norm", [0.05, 1e3])
def test_updates_equal_those_of_torch_adamw(clip_norm: float) -> None:
    ours, theirs = network(), network()
    flat = FlatOptimizer(ours, TrainingConfig(weight_decay=0.1, clip_norm=clip_norm))
    adam = torch.optim.AdamW(
        [
            {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    for rate in (1e-2, 3e-3, 1e-3):
        images = torch.randn(6, 1, 5, 5)
        flat.zero_grad()
        ours(images).square().mean().backward()
        flat.step(torch.tensor(rate))
        adam.zero_grad()
        theirs(images).square().mean().backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_muon_updates_hidden_weights_and_adamw_the_others() -> None:
    ours, alone = network(), network()
    config = TrainingConfig(learning_rate=1e-2, muon=0.05, weight_decay=0.1, clip_norm=1e3)
    flat, adam = FlatOptimizer(ours, config), FlatOptimizer(alone, replace(config, muon=0.0))
    momentum = {name: torch.zeros_like(p) for name, p in ours.named_parameters()}
    # The rate given to `step` is half of the configured one, so that of Muon is halved as well.
    for images in (torch.randn(6, 1, 5, 5), torch.randn(6, 1, 5, 5)):
        for net, optimizer in ((ours, flat), (alone, adam)):
            optimizer.zero_grad()
            net(images).square().mean().backward()
        before = {name: p.detach().clone() for name, p in ours.named_parameters()}
        gradients = {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}
        flat.step(torch.tensor(5e-3))
        adam.step(torch.tensor(5e-3))
        for weight, stacked in (("linear.weight", 3), ("convolution.weight", 1)):
            momentum[weight] = 0.95 * momentum[weight] + 0.05 * gradients[weight]
            ahead = 0.05 * gradients[weight] + 0.95 * momentum[weight]
            matrices = ahead.reshape(stacked, ahead.shape[0] // stacked, -1)
            tall = max(1.0, matrices.shape[1] / matrices.shape[2]) ** 0.5
            step = 0.025 * tall * orthogonalised(matrices).reshape(ahead.shape)
            expected = before[weight] * (1 - 0.025 * 0.1) - step
            torch.testing.assert_close(dict(ours.named_parameters())[weight], expected, rtol=1e-5, atol=1e-6)
        # Both networks start the next step with equal weights.
        with torch.no_grad():
            for name, p in alone.named_parameters():
                if name not in ("linear.weight", "convolution.weight"):
                    torch.testing.assert_close(p, dict(ours.named_parameters())[name])
                p.copy_(dict(ours.named_parameters())[name])


@pytest.mark.parametrize("shape", [(2, 6, 20), (3, 20, 6), (1, 8, 8)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, singular, right = torch.linalg.svd(orthogonalised(matrices), full_matrices=False)
    assert ((singular > 0.6) & (singular < 1.3)).all()
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    # The nearest orthogonal matrix is u v. Iteration leaves the singular values only near 1, so vectors are compared.
    assert torch.linalg.matrix_norm(left @ right - u @ v).max() < 1e-3


@pytest.mark.parametrize("muon", [0.0, 0.02])
def test_parameters_keep_shape_order_and_values_and_share_one_vector(muon: float) -> None:
    net, untouched = network(), network()
    flat = FlatOptimizer(net, TrainingConfig(muon=muon))
    for one, other in zip(net.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert one.grad is not None
        assert one.grad.stride() == one.stride()
    flat.values.fill_(2.0)
    assert all((p == 2).all() for p in net.parameters())
    flat.release()
    flat.values.fill_(3.0)
    assert all((p == 2).all() for p in net.parameters())


def test_one_cycle_equals_that_of_torch() -> None:
    steps = 200
    rates = learning_rates(TrainingConfig(steps=steps, learning_rate=3e-3))
    adam = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=steps + 1, pct_start=0.15)
    theirs = []
    for _ in range(steps):
        theirs.append(adam.param_groups[0]["lr"])
        adam.step()
        torchs.step()
    # The peak of torch lies one step earlier.
    assert (rates - torch.tensor(theirs)).abs().max() < 3e-3 * 0.06


def test_plateau_rates_are_reduced_from_a_step_on() -> None:
    rates = learning_rates(TrainingConfig(steps=6, learning_rate=1e-2, schedule="plateau"))
    reduce(rates, 4)
    torch.testing.assert_close(rates, torch.tensor([1e-2] * 4 + [1e-3] * 2))


def test_the_guide_decreases_to_zero() -> None:
    pull = guides(TrainingConfig(steps=10, guide=8.0, guide_share=0.4))
    assert pull.tolist() == [8, 6, 4, 2, 0, 0, 0, 0, 0, 0]
    assert guides(TrainingConfig(steps=3, guide=8.0, guide_share=0.0)).tolist() == [8, 0, 0]
