"""Intervals against other packages and published examples."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

from captchabench.scoring.intervals import edit_intervals, resample, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, 857: table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("trials", [1, 7, 107, 2679])
def test_wilson_as_in_statsmodels(trials: int) -> None:
    for successes in sorted({0, 1, trials // 3, trials - 1, trials}):
        expected = proportion_confint(successes, trials, method="wilson")
        assert wilson(successes, trials) == pytest.approx(expected, abs=1e-12)


def test_edit_intervals_as_scipys_bootstrap_over_single_images() -> None:
    rng = np.random.default_rng(1)
    characters = rng.integers(4, 8, 300)
    edits = np.minimum(rng.geometric(0.5, 300) - 1, characters)
    images: dict[tuple[int, int], int] = {}
    for kind in zip(edits.tolist(), characters.tolist(), strict=True):
        images[kind] = images.get(kind, 0) + 1
    intervals = edit_intervals(images)
    for interval, each in ((intervals.cer, characters), (intervals.mean_edit_distance, np.ones(300, int))):
        low, high = bootstrap(
            (edits, each),
            lambda e, c, axis: e.sum(axis) / c.sum(axis),
            paired=True,
            n_resamples=20_000,
            method="percentile",
            rng=2,
        ).confidence_interval
        # Both are random: the ends agree within a twentieth of the width.
        assert interval == pytest.approx((low, high), abs=0.05 * (high - low))


def test_an_interval_does_not_depend_on_the_order_of_images_and_shrinks_with_their_number() -> None:
    images = {(0, 5): 80, (1, 5): 15, (3, 6): 5}
    intervals = edit_intervals(images)
    assert intervals == edit_intervals(dict(reversed(images.items())))
    assert intervals.cer
    assert intervals.cer.low < (15 + 15) / (95 * 5 + 5 * 6) < intervals.cer.high
    more = edit_intervals({kind: 100 * n for kind, n in images.items()})
    assert more.cer
    ratio = (more.cer.high - more.cer.low) / (intervals.cer.high - intervals.cer.low)
    assert ratio == pytest.approx(1 / 10, rel=0.1)


@pytest.mark.parametrize("images", [{(0, 5): 100}, {(5, 5): 100}, {(2, 4): 1}])
def test_equal_images_have_no_interval(images: dict[tuple[int, int], int]) -> None:
    assert edit_intervals(images) == (None, None)


def test_images_of_several_lengths_without_errors_have_no_interval() -> None:
    assert edit_intervals({(0, 5): 50, (0, 6): 50}) == (None, None)


def test_every_resample_has_as_many_images() -> None:
    counts = np.array([70, 20, 10])
    drawn = resample(counts, 4000, 0)
    assert (drawn.sum(axis=1) == 100).all()
    assert drawn.mean(axis=0) == pytest.approx(counts, abs=0.5)
    # Binomial: n p (1 - p).
    assert drawn.var(axis=0) == pytest.approx([21, 16, 9], rel=0.1)


@pytest.mark.parametrize("ease", [3.0, 6.0])
def test_intervals_of_cer_contain_the_true_value_at_about_the_nominal_rate(ease: float) -> None:
    rng = np.random.default_rng(0)

    def edits(images: int) -> NDArray[np.int64]:
        # Of five characters each; some images are far harder than others.
        return rng.binomial(5, 1 / (1 + np.exp(ease + 2 * rng.standard_normal(images))))

    true, covered, runs = edits(1_000_000).mean() / 5, 0, 300
    for _ in range(runs):
        interval = edit_intervals({(k, 5): int(n) for k, n in enumerate(np.bincount(edits(575))) if n}).cer
        assert interval
        covered += interval.low <= true <= interval.high
    assert 0.9 <= covered / runs <= 0.97
