"""Kernel machines: what a line cannot part, the same seed the same machine."""

import numpy as np
from numpy.typing import NDArray

from captchabench.models.hog_svc import KernelMachine


def ring(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points in the plane; class 0 inside a circle, class 1 outside: [400, 2] float32, [400] int64."""
    points = np.random.default_rng(seed).uniform(-1, 1, (400, 2)).astype(np.float32)
    return points, (np.linalg.norm(points, axis=1) > 0.8).astype(np.int64)


def test_learns_what_no_line_parts() -> None:
    points, classes = ring(0)
    unseen, right = ring(1)
    machine = KernelMachine.fit(points, classes, cosines=200, ridge=1e-4, seed=0)
    share = np.mean(machine.margins(unseen).argmax(axis=1) == right)
    assert share > 0.95
    linear = KernelMachine.fit(points, classes, cosines=1, ridge=1e-4, seed=0)
    assert np.mean(linear.margins(unseen).argmax(axis=1) == right) < share - 0.1


def test_margins_near_one_and_zero() -> None:
    points, classes = ring(0)
    margins = KernelMachine.fit(points, classes, cosines=200, ridge=1e-4, seed=0).margins(points)
    assert margins.dtype == np.float32
    np.testing.assert_allclose(margins.sum(axis=1), 1, atol=0.02)


def test_the_seed_decides() -> None:
    points, classes = ring(0)
    one, same, other = (
        KernelMachine.fit(points, classes, cosines=20, ridge=1e-4, seed=s).margins(points) for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_more_examples_than_are_taken_at_once_count_too() -> None:
    points, classes = ring(0)
    often = KernelMachine.fit(np.tile(points, (25, 1)), np.tile(classes, 25), cosines=20, ridge=1e-4, seed=0)
    once = KernelMachine.fit(points, classes, cosines=20, ridge=1e-4, seed=0)
    np.testing.assert_allclose(often.margins(points), once.margins(points), atol=1e-2)


def test_a_single_symbol() -> None:
    points, _ = ring(0)
    machine = KernelMachine.fit(points, np.zeros(len(points), np.int64), cosines=5, ridge=1e-4, seed=0)
    assert machine.margins(points).shape == (len(points), 1)
