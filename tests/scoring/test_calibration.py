"""Reliability bins by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from captchabench.scoring.calibration import BINS, Reliability, expected_calibration_error


def test_edges_belong_to_the_bin_below() -> None:
    bins = Reliability.of(np.array([0.0, 1 / BINS, 2 / BINS, 1.0]), np.array([True] * 4))
    assert bins.samples == (2, 1, *([0] * (BINS - 3)), 1)


def test_ece_by_hand() -> None:
    # Two at 0.9, one of them right: |0.5 - 0.9|. Two at 0.1, none right: |0 - 0.1|.
    bins = Reliability.of(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False]))
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)


def test_a_confident_reader_is_calibrated_only_if_it_is_right() -> None:
    assert expected_calibration_error(Reliability.of(np.ones(3), np.ones(3, bool))) == 0
    assert expected_calibration_error(Reliability.of(np.ones(3), np.zeros(3, bool))) == 1


def test_bins_add_up() -> None:
    rng = np.random.default_rng(0)
    sure, right = rng.random(100), rng.random(100) < 0.5
    whole = Reliability.of(sure, right)
    halves = Reliability.of(sure[:40], right[:40]) + Reliability.of(sure[40:], right[40:])
    assert (halves.samples, halves.exact) == (whole.samples, whole.exact)
    assert halves.confidence == pytest.approx(whole.confidence)


def test_ece_as_published() -> None:
    # The example of torchmetrics' BinaryCalibrationError: 0.29 with the L1 norm.
    bins = Reliability.of(np.array([0.25, 0.25, 0.55, 0.75, 0.75]), np.array([0, 0, 1, 1, 1], bool))
    assert expected_calibration_error(bins) == pytest.approx(0.29, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_ece_as_from_the_bins_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.beta(2, 0.5, 3000)
    right = rng.random(3000) < sure**1.5
    shares, confidences = calibration_curve(right, sure, n_bins=BINS)
    counts = np.histogram(sure, BINS, (0, 1))[0]
    expected = (counts[counts > 0] * np.abs(shares - confidences)).sum() / 3000
    assert expected_calibration_error(Reliability.of(sure, right)) == pytest.approx(expected, abs=1e-12)
    assert expected > 0.01
