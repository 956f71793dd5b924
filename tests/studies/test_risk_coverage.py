"""Precision against coverage, by hand and by trying every threshold."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from captchabench.studies.confidence import POINTS, RiskCoverage

READINGS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99, 1.0]), st.booleans()), min_size=1, max_size=40
)


def curve(*readings: tuple[float, bool]) -> RiskCoverage:
    confidences, right = zip(*readings, strict=True)
    return RiskCoverage.of(np.array(confidences, np.float32), np.array(right))


def test_by_hand() -> None:
    risk = curve((0.5, True), (0.75, True), (0.25, False), (1.0, True))
    assert risk.thresholds.tolist() == [1.0, 0.75, 0.5, 0.25]
    assert risk.read.tolist() == [1, 2, 3, 4]
    assert risk.right.tolist() == [1, 2, 3, 3]
    assert risk.at_target() == 2


def test_images_of_equal_confidence_are_read_together() -> None:
    # In either order of the two at 0.5: reading only the right one is not possible.
    for readings in ([(0.5, True), (0.5, False)], [(0.5, False), (0.5, True)]):
        risk = curve((0.9, True), *readings)
        assert risk.read.tolist() == [1, 3]
        assert risk.at_target() == 0


def test_exactly_99_of_100_is_enough_and_less_is_not() -> None:
    assert curve(*[(0.5, True)] * 99, (0.5, False)).at_target() == 0
    assert curve(*[(0.5, True)] * 98, (0.5, False)).at_target() is None


def test_the_largest_share_counts_even_where_a_smaller_one_is_not_precise() -> None:
    risk = curve((1.0, False), *[(0.5, True)] * 199)
    assert risk.at_target() == 1
    assert risk.read[1] == 200


@settings(max_examples=100, deadline=None)
@given(READINGS)
def test_against_every_threshold(readings: list[tuple[float, bool]]) -> None:
    risk = curve(*readings)
    for threshold, read, right in zip(risk.thresholds, risk.read, risk.right, strict=True):
        kept = [hit for sure, hit in readings if np.float32(sure) >= threshold]
        assert (read, right) == (len(kept), sum(kept))
    assert risk.read[-1] == len(readings)
    enough = [i for i in range(len(risk.read)) if 100 * risk.right[i] >= 99 * risk.read[i]]
    assert risk.at_target() == max(enough, default=None)


def points(curve: RiskCoverage) -> set[tuple[float, int, int]]:
    return set(zip(curve.thresholds.tolist(), curve.read.tolist(), curve.right.tolist(), strict=True))


def test_thinning_keeps_the_ends_and_the_target() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(5000).astype(np.float32)
    whole = RiskCoverage.of(sure, rng.random(5000) < sure**0.05)
    thin = whole.thinned()
    assert 50 < len(thin.read) <= POINTS
    assert thin.read[-1] == 5000
    target, kept = whole.at_target(), thin.at_target()
    assert target is not None
    assert kept is not None
    assert thin.read[kept] == whole.read[target]
    assert np.diff(thin.read).max() < 5000 / 50
    assert points(thin) <= points(whole)


def test_few_points_are_all_kept() -> None:
    risk = curve((0.5, True), (0.75, False))
    assert risk.thinned().read.tolist() == risk.read.tolist()
