"""The flat optimiser and the tables of rates do what torch.optim does."""

import pytest
import torch
from torch import nn

from captchabench.training.optimizer import FlatAdamW
from captchabench.training.schedule import guides, learning_rates, reduce
from captchabench.training.settings import TrainingConfig


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 3))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("clip_norm", [0.05, 1e3])
def test_updates_equal_those_of_torch(clip_norm: float) -> None:
    ours, theirs = network(), network()
    flat = FlatAdamW(ours, weight_decay=0.1, clip_norm=clip_norm)
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


def test_parameters_keep_shape_order_and_values_and_share_one_vector() -> None:
    net, untouched = network(), network()
    flat = FlatAdamW(net, weight_decay=0.0, clip_norm=1.0)
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


def test_one_cycle_equals_torchs() -> None:
    steps = 200
    rates = learning_rates(TrainingConfig(steps=steps, learning_rate=3e-3))
    adam = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, total_steps=steps + 1, pct_start=0.15)
    theirs = []
    for _ in range(steps):
        theirs.append(adam.param_groups[0]["lr"])
        adam.step()
        torchs.step()
    # Their peak lies one step before ours.
    assert (rates - torch.tensor(theirs)).abs().max() < 3e-3 * 0.06


def test_plateau_rates_fall_from_a_step_on() -> None:
    rates = learning_rates(TrainingConfig(steps=6, learning_rate=1e-2, schedule="plateau"))
    reduce(rates, 4)
    torch.testing.assert_close(rates, torch.tensor([1e-2] * 4 + [1e-3] * 2))


def test_the_guide_fades_to_nothing() -> None:
    pull = guides(TrainingConfig(steps=10, guide=8.0, guide_share=0.4))
    assert pull.tolist() == [8, 6, 4, 2, 0, 0, 0, 0, 0, 0]
    assert guides(TrainingConfig(steps=3, guide=8.0, guide_share=0.0)).tolist() == [8, 0, 0]
