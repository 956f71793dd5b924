"""CTC against its definition: the sum over all paths, written out."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captchabench.errors import InputError
from captchabench.training.ctc import beam_decode, check_capacity, ctc_losses, greedy_decode, steps_needed


def by_enumeration(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Every label's probability, from every path. log_probs: [T, K + 1]."""
    steps, classes = log_probs.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        label = tuple(k - 1 for k, _ in itertools.groupby(path) if k != 0)
        weight = sum(log_probs[t, k] for t, k in enumerate(path)).exp().item()
        found[label] = found.get(label, 0.0) + weight
    return found


def random_log_probs(seed: int, steps: int, symbols: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(1, steps, symbols + 1, generator=generator, dtype=torch.float64)).log_softmax(2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3))
def test_losses_are_the_sum_over_all_paths(seed: int, steps: int, symbols: int) -> None:
    log_probs = random_log_probs(seed, steps, symbols)
    for label, probability in by_enumeration(log_probs[0]).items():
        targets = torch.tensor([[*label, -1]])
        loss = ctc_losses(log_probs, targets, torch.tensor([len(label)]))
        assert (-loss).exp().item() == pytest.approx(probability, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3))
def test_a_wide_beam_finds_every_label_and_its_probability(seed: int, steps: int, symbols: int) -> None:
    log_probs = random_log_probs(seed, steps, symbols)
    expected = by_enumeration(log_probs[0])
    labels, scores = beam_decode(log_probs, width=len(expected) + 3)
    found = {
        tuple(row[row >= 0].tolist()): score.exp().item()
        for row, score in zip(labels[0], scores[0], strict=True)
        if score > float("-inf")
    }
    assert found.keys() == expected.keys()
    for label, probability in expected.items():
        assert found[label] == pytest.approx(probability, rel=1e-9)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)


def test_greedy_collapses_repeats_and_drops_blanks() -> None:
    paths = torch.tensor([[0, 1, 1, 0, 1, 2], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [1, 2, 2, 1, 0, 0]])
    log_probs = torch.nn.functional.one_hot(paths, 4).float().log_softmax(2)
    texts = [row[row >= 0].tolist() for row in greedy_decode(log_probs)]
    assert texts == [[0, 0, 1], [2], [], [0, 1, 0]]


def test_beam_reads_what_greedy_misses() -> None:
    # The textbook case: blank wins each step alone, "a" wins over all paths (0.64 against 0.36).
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert (greedy_decode(log_probs) == -1).all()
    labels, scores = beam_decode(log_probs, width=2)
    assert labels[0, 0].tolist() == [0, -1]
    assert scores[0, 0].exp().item() == pytest.approx(0.64)


def test_a_label_that_does_not_fit_costs_infinitely_much() -> None:
    log_probs = torch.zeros(1, 3, 2).log_softmax(2)
    assert torch.isinf(ctc_losses(log_probs, torch.tensor([[0, 0, 0]]), torch.tensor([3]))).all()


def test_capacity_is_checked_with_the_arithmetic() -> None:
    assert [steps_needed(n) for n in (0, 1, 5, 6)] == [1, 1, 9, 11]
    check_capacity(11, 6, "an image")
    with pytest.raises(InputError, match=r"10 time steps.* 2 x 6 - 1 = 11"):
        check_capacity(10, 6, "an image")
