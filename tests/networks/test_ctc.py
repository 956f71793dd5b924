"""The CTC loss against its definition, a sum over all paths, and against that of PyTorch."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captchabench.errors import InputError
from captchabench.networks.ctc import check_capacity, ctc_losses, steps_needed


def by_enumeration(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """The probability of every label, summed over all paths. log_probs: [T, K + 1]."""
    steps, classes = log_probs.shape
    probabilities: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        label = tuple(k - 1 for k, _ in itertools.groupby(path) if k != 0)
        weight = sum((log_probs[t, k] for t, k in enumerate(path)), torch.zeros(())).exp().item()
        probabilities[label] = probabilities.get(label, 0.0) + weight
    return probabilities


def random_logits(seed: int, batch: int, steps: int, symbols: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(batch, steps, symbols + 1, generator=generator, dtype=torch.float64)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, padded targets and lengths. With few symbols many repeat, and some labels are too long to fit."""
    symbols, longest = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    labels = draw(st.lists(st.lists(st.integers(0, symbols - 1), max_size=longest), min_size=1, max_size=6))
    steps = draw(st.integers(1, 16))
    targets = torch.tensor([row + [-1] * (longest - len(row)) for row in labels])
    logits = random_logits(draw(st.integers(0, 10_000)), len(labels), steps, symbols)
    return logits, targets, torch.tensor([len(row) for row in labels])


def value_and_gradient(losses: Tensor, logits: Tensor, possible: Tensor) -> tuple[Tensor, Tensor]:
    """The losses, and the gradient of the sum of those that are finite."""
    (gradient,) = torch.autograd.grad(losses[possible].sum(), logits)
    return losses.detach(), gradient


def fits(targets: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Whether each label has an alignment: a step for each symbol, and one between equal neighbours."""
    repeats = ((targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] >= 0)).sum(dim=1)
    return lengths + repeats <= steps


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3))
def test_losses_are_the_sum_over_all_paths(seed: int, steps: int, symbols: int) -> None:
    log_probs = random_logits(seed, 1, steps, symbols).log_softmax(2)
    for label, probability in by_enumeration(log_probs[0]).items():
        targets = torch.tensor([[*label, -1]])
        # The loss is computed in two ways, with and without a gradient.
        for given_probs in (log_probs, log_probs.clone().requires_grad_()):
            loss = ctc_losses(given_probs, targets, torch.tensor([len(label)]))
            assert (-loss).exp().item() == pytest.approx(probability, rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(batches())
def test_values_and_gradients_are_those_of_pytorch(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, targets, lengths = batch
    steps = logits.shape[1]
    possible = fits(targets, lengths, steps)
    logits.requires_grad_()
    ours = value_and_gradient(ctc_losses(logits.log_softmax(2), targets, lengths), logits, possible)
    reference = torch.nn.functional.ctc_loss(
        logits.log_softmax(2).transpose(0, 1),
        targets + 1,
        torch.full_like(lengths, steps),
        lengths,
        reduction="none",
    )
    theirs = value_and_gradient(reference, logits, possible)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-9, atol=1e-9)
    # PyTorch's gradient of a label that does not fit is NaN.
    torch.testing.assert_close(ours[1][possible], theirs[1][possible], rtol=1e-9, atol=1e-9)
    assert torch.isinf(ours[0][~possible]).all()


@settings(max_examples=50, deadline=None)
@given(batches())
def test_samples_of_a_batch_are_independent(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """Neither padding nor a label that does not fit, whose gradient is zero, changes the gradient of another sample."""
    logits, targets, lengths = batch
    logits.requires_grad_()
    (together,) = torch.autograd.grad(ctc_losses(logits.log_softmax(2), targets, lengths).sum(), logits)
    for i, length in enumerate(lengths.tolist()):
        alone = logits[i : i + 1]
        (apart,) = torch.autograd.grad(
            ctc_losses(alone.log_softmax(2), targets[i : i + 1, :length], lengths[i : i + 1]).sum(), logits
        )
        torch.testing.assert_close(together[i], apart[i], rtol=1e-9, atol=1e-9)
    assert (together[~fits(targets, lengths, logits.shape[1])] == 0).all()


def test_the_gradient_equals_finite_differences() -> None:
    logits = random_logits(0, 2, 6, 2).requires_grad_()
    targets, lengths = torch.tensor([[0, 0, 1], [1, -1, -1]]), torch.tensor([3, 1])
    guide = torch.tensor(4.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: ctc_losses(x.log_softmax(2), targets, lengths, guide), logits)


@settings(max_examples=25, deadline=None)
@given(batches(), st.floats(0.1, 50))
def test_a_guide_of_zero_changes_nothing_and_any_guide_adds_to_the_loss(
    batch: tuple[Tensor, Tensor, Tensor], pull: float
) -> None:
    logits, targets, lengths = batch
    log_probs = logits.log_softmax(2).requires_grad_()
    plain = ctc_losses(log_probs, targets, lengths)
    unguided = ctc_losses(log_probs, targets, lengths, torch.tensor(0.0))
    guided = ctc_losses(log_probs, targets, lengths, torch.tensor(pull))
    assert torch.equal(plain, unguided)
    assert (guided >= plain).all()


def test_a_guide_prefers_the_even_alignment() -> None:
    """Of two networks equally sure of "ab", the one that reads it evenly over the width has the lower loss."""
    sure, even, crowded = 0.9, [0, 1, 0, 0, 2, 0], [1, 2, 0, 0, 0, 0]
    paths = torch.tensor([even, crowded])
    log_probs = torch.nn.functional.one_hot(paths, 3).double().mul(sure).add((1 - sure) / 3).log()
    targets, lengths = torch.tensor([[0, 1], [0, 1]]), torch.tensor([2, 2])
    on_the_diagonal, off_it = ctc_losses(log_probs, targets, lengths, torch.tensor(5.0))
    assert on_the_diagonal < off_it - 1


def test_a_label_that_does_not_fit_has_an_infinite_loss() -> None:
    log_probs = torch.zeros(1, 3, 2).log_softmax(2)
    assert torch.isinf(ctc_losses(log_probs, torch.tensor([[0, 0, 0]]), torch.tensor([3]))).all()


def test_capacity_is_checked_with_the_arithmetic() -> None:
    assert [steps_needed(n) for n in (0, 1, 5, 6)] == [1, 1, 9, 11]
    check_capacity(11, 6, "an image")
    with pytest.raises(InputError, match=r"10 time steps.* 2 x 6 - 1 = 11"):
        check_capacity(10, 6, "an image")
