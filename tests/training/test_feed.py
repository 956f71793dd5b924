"""Windows of the training samples: the whole set, or streamed."""

import torch

from captchabench.training.feed import TensorSamples, Window, windows
from captchabench.training.settings import TrainingConfig

CPU = torch.device("cpu")


def numbered(count: int) -> TensorSamples:
    """Samples whose pixels and label are their number (pixels: modulo 251)."""
    number = torch.arange(count)
    return TensorSamples((number % 251).to(torch.uint8).view(-1, 1, 1).expand(-1, 4, 5).contiguous(), number[:, None])


def windows_of(count: int, steps: int, window_bytes: int | None, seed: int = 0) -> list[Window]:
    config = TrainingConfig(steps=steps, batch_size=10)
    return list(windows(numbered(count), config, seed=seed, device=CPU, window_bytes=window_bytes))


def labels_in(all_windows: list[Window]) -> torch.Tensor:
    return torch.cat([w.samples.targets[w.order].flatten() for w in all_windows])


def test_samples_that_fit_are_one_window_of_whole_passes() -> None:
    (window,) = windows_of(40, steps=10, window_bytes=40 * 20)
    assert window.order.shape == (10, 10)
    counts = torch.bincount(labels_in([window]), minlength=40)
    assert counts.min() >= 2
    assert counts.max() <= 3
    assert torch.equal(window.order[:4].flatten().sort().values, torch.arange(40))


def test_samples_that_do_not_fit_are_streamed_in_windows_of_one_shape() -> None:
    streamed = windows_of(1000, steps=250, window_bytes=20 * 2 * 170)
    assert len(streamed) == 15
    assert {w.samples.images.shape for w in streamed} == {(170, 4, 5)}
    assert sum(len(w.order) for w in streamed) >= 250
    counts = torch.bincount(labels_in(streamed), minlength=1000)
    # 2.55 passes: each sample comes two or three times.
    assert counts.min() >= 2
    assert counts.max() <= 3
    for window in streamed:
        labels = window.samples.targets[:, 0]
        assert torch.equal((labels % 251).to(torch.uint8), window.samples.images[:, 0, 0])
        assert len(labels.unique()) > 160


def test_equal_seeds_give_equal_windows_and_different_seeds_do_not() -> None:
    for window_bytes in (None, 4000):
        one, two, other = (labels_in(windows_of(300, 40, window_bytes, seed)) for seed in (1, 1, 2))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)
