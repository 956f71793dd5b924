"""Kernel machines: classes that no line separates, reproducible from the seed, at both ends of the bounds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from captchabench.models.hog_svc import KernelMachine


def ring(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points in the plane; class 0 inside a circle, class 1 outside: [400, 2] float32, [400] int64."""
    points = np.random.default_rng(seed).uniform(-1, 1, (400, 2)).astype(np.float32)
    return points, (np.linalg.norm(points, axis=1) > 0.8).astype(np.int64)


def test_learns_classes_that_no_line_separates() -> None:
    points, classes = ring(0)
    unseen, expected = ring(1)
    machine = KernelMachine.fit(points, classes, cosines=200, ridge=1e-4, seed=0)
    share = np.mean(machine.margins(unseen).argmax(axis=1) == expected)
    assert share > 0.95
    linear = KernelMachine.fit(points, classes, cosines=1, ridge=1e-4, seed=0)
    assert np.mean(linear.margins(unseen).argmax(axis=1) == expected) < share - 0.1


def test_margins_near_one_and_zero() -> None:
    points, classes = ring(0)
    margins = KernelMachine.fit(points, classes, cosines=200, ridge=1e-4, seed=0).margins(points)
    assert margins.dtype == np.float32
    np.testing.assert_allclose(margins.sum(axis=1), 1, atol=0.02)


def test_equal_seeds_give_equal_machines() -> None:
    points, classes = ring(0)
    one, same, other = (
        KernelMachine.fit(points, classes, cosines=20, ridge=1e-4, seed=s).margins(points) for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_examples_of_all_chunks_count() -> None:
    points, classes = ring(0)
    often = KernelMachine.fit(np.tile(points, (25, 1)), np.tile(classes, 25), cosines=20, ridge=1e-4, seed=0)
    once = KernelMachine.fit(points, classes, cosines=20, ridge=1e-4, seed=0)
    np.testing.assert_allclose(often.margins(points), once.margins(points), atol=1e-2)


def test_a_single_symbol() -> None:
    points, _ = ring(0)
    machine = KernelMachine.fit(points, np.zeros(len(points), np.int64), cosines=5, ridge=1e-4, seed=0)
    assert machine.margins(points).shape == (len(points), 1)


@pytest.mark.parametrize("ridge", [1e-5, 1.0])
def test_the_smallest_and_the_largest_ridge_work(ridge: float) -> None:
    points, classes = ring(0)
    unseen, expected = ring(1)
    machine = KernelMachine.fit(points, classes, cosines=200, ridge=ridge, seed=0)
    assert np.mean(machine.margins(unseen).argmax(axis=1) == expected) > 0.9
