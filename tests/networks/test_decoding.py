"""Decoding against the probabilities of all labels."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captchabench.networks.ctc import ctc_losses
from captchabench.networks.decoding import Lengths, beam_decode, greedy_decode


def random_log_probs(seed: int, steps: int, symbols: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(1, steps, symbols + 1, generator=generator, dtype=torch.float64)).log_softmax(2)


def every_label(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The probability of each label that fits into the steps. log_probs: [1, T, K + 1]."""
    _, steps, classes = log_probs.shape
    labels = [label for n in range(steps + 1) for label in itertools.product(range(classes - 1), repeat=n)]
    targets = torch.tensor([[*label, *[-1] * (steps - len(label))] for label in labels])
    lengths = torch.tensor([len(label) for label in labels])
    losses = ctc_losses(log_probs.expand(len(labels), -1, -1), targets, lengths)
    return {label: p for label, p in zip(labels, (-losses).exp().tolist(), strict=True) if p > 0}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3))
def test_a_wide_beam_finds_every_label_and_its_probability(seed: int, steps: int, symbols: int) -> None:
    log_probs = random_log_probs(seed, steps, symbols)
    expected = every_label(log_probs)
    labels, scores = beam_decode(log_probs, width=len(expected) + 3)
    result = {
        tuple(row[row >= 0].tolist()): score.exp().item()
        for row, score in zip(labels[0], scores[0], strict=True)
        if score > float("-inf")
    }
    assert result.keys() == expected.keys()
    for label, probability in expected.items():
        assert result[label] == pytest.approx(probability, rel=1e-9)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)


def test_greedy_collapses_repeats_and_drops_blanks() -> None:
    paths = torch.tensor([[0, 1, 1, 0, 1, 2], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [1, 2, 2, 1, 0, 0]])
    log_probs = torch.nn.functional.one_hot(paths, 4).float().log_softmax(2)
    texts = [row[row >= 0].tolist() for row in greedy_decode(log_probs)]
    assert texts == [[0, 0, 1], [2], [], [0, 1, 0]]


def test_beam_finds_a_label_that_greedy_misses() -> None:
    # At each step blank is likelier, but over all paths "a" is (0.64 against 0.36).
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert (greedy_decode(log_probs) == -1).all()
    labels, scores = beam_decode(log_probs, width=2)
    assert labels[0, 0].tolist() == [0, -1]
    assert scores[0, 0].exp().item() == pytest.approx(0.64)


def texts(ids: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(row[row >= 0].tolist()) for row in ids]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3), st.data())
def test_greedy_with_lengths_takes_the_likeliest_path_of_such_a_label(
    seed: int, steps: int, symbols: int, data: st.DataObject
) -> None:
    longest = data.draw(st.integers(0, (steps + 1) // 2))
    shortest = data.draw(st.integers(0, longest))
    log_probs = random_log_probs(seed, steps, symbols)
    best: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(symbols + 1), repeat=steps):
        label = tuple(k - 1 for k, _ in itertools.groupby(path) if k != 0)
        score = sum(log_probs[0, t, k].item() for t, k in enumerate(path))
        if shortest <= len(label) <= longest:
            best[label] = max(score, best.get(label, float("-inf")))
    (result,) = texts(greedy_decode(log_probs, Lengths(shortest, longest)))
    assert best[result] == pytest.approx(max(best.values()), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3), st.data())
def test_a_wide_beam_with_lengths_takes_the_likeliest_such_label(
    seed: int, steps: int, symbols: int, data: st.DataObject
) -> None:
    longest = data.draw(st.integers(0, (steps + 1) // 2))
    shortest = data.draw(st.integers(0, longest))
    log_probs = random_log_probs(seed, steps, symbols)
    every = every_label(log_probs)
    labels, scores = beam_decode(log_probs, len(every) + 3, Lengths(shortest, longest))
    expected = {label: p for label, p in every.items() if shortest <= len(label) <= longest}
    (result,) = texts(labels[:, 0])
    assert every[result] == pytest.approx(max(expected.values()), rel=1e-9)
    assert scores[0, 0].exp().item() == pytest.approx(every[result], rel=1e-9)
    assert all(len(label) <= longest for label in texts(labels[0][scores[0] > float("-inf")]))


def test_allowing_all_lengths_changes_nothing() -> None:
    log_probs = torch.cat([random_log_probs(seed, 9, 3) for seed in range(50)])
    assert texts(greedy_decode(log_probs, Lengths(0, 9))) == texts(greedy_decode(log_probs))


def test_a_narrow_beam_of_short_labels_still_reads_something() -> None:
    log_probs = torch.tensor([[[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]]).log()
    labels, scores = beam_decode(log_probs, 1, Lengths(2, 2))
    assert texts(labels[0]) == [()]
    assert scores[0, 0] > float("-inf")
