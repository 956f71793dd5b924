"""The curve over the number of training images: what the fit says of points made by hand and by simulation."""

import numpy as np
import pytest

from captchabench.own.forecast import Curve, Forecast, Point


def test_more_images_never_hurt() -> None:
    curve = Curve([Point(200, 120, 200), Point(400, 160, 200), Point(800, 180, 200)])
    shares = [curve.at(images).share for images in (200, 400, 800, 1600, 3200)]
    assert shares == sorted(shares)
    # Each doubling roughly halves the errors, and goes on to do so.
    assert curve.at(1600).share == pytest.approx(0.95, abs=0.02)
    for forecast in map(curve.at, (200, 800, 1600)):
        assert forecast.interval.low <= forecast.share <= forecast.interval.high


def test_an_interval_is_wider_the_further_it_looks_and_the_fewer_were_read() -> None:
    def width(forecast: Forecast) -> float:
        return forecast.interval.high - forecast.interval.low

    many = Curve([Point(200, 1400, 2000), Point(400, 1600, 2000)])
    few = Curve([Point(200, 70, 100), Point(400, 80, 100)])
    assert width(many.at(400)) < width(many.at(800)) < width(many.at(1600))
    assert width(many.at(800)) < width(few.at(800))


def test_a_set_that_is_read_without_a_mistake_needs_no_more() -> None:
    curve = Curve([Point(200, 200, 200), Point(400, 200, 200)])
    assert curve.at(800).share > 0.995
    assert curve.at(800).interval.high == 1.0
    assert curve.needed(0.99) == 400


def test_nothing_is_promised_where_nothing_is_learned() -> None:
    curve = Curve([Point(200, 0, 200), Point(400, 0, 200), Point(800, 0, 200)])
    assert curve.at(1600).share < 0.05
    assert curve.needed(0.9) is None


def test_the_images_needed_reach_the_share() -> None:
    curve = Curve([Point(200, 120, 200), Point(400, 160, 200), Point(800, 180, 200)])
    needed = curve.needed(0.95)
    assert needed is not None
    assert needed > 800
    assert curve.at(needed).share >= 0.95
    assert curve.at(needed // 2).share < 0.95
    # Two digits.
    assert int(str(needed)[2:] or 0) == 0


@pytest.mark.parametrize("sizes", [[200], [400, 200], [200, 200], [0, 200]])
def test_a_curve_takes_two_sizes(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="two different sizes"):
        Curve([Point(size, 10, 20) for size in sizes])


# Where the half is on the log odds of an error, the exponent, by how much flatter the curve is after the half, and the
# held-out images.
REGIMES = {
    "near the ceiling": ((-7, -4), (0.3, 1.5), 1.0, 200),
    "usual": ((-4, 0), (0.3, 2.0), 1.0, 200),
    "steep, then flatter": ((-3, 1), (3.0, 6.0), 0.6, 200),
    "few held-out images": ((-5, -1), (0.3, 2.0), 1.0, 40),
    "many held-out images": ((-5, -1), (0.3, 2.0), 1.0, 2000),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_intervals_cover_what_is_measured_later(regime: str) -> None:
    """Fitted on a quarter and a half of simulated sets, the interval holds what the whole reads."""
    of_half, exponents, flatter, total = REGIMES[regime]
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(25):
        odds, slope = rng.uniform(*of_half), rng.uniform(*exponents) * np.log(2)
        log_odds = np.array([odds + slope, odds, odds - flatter * slope]) + rng.normal(0, 0.3, 3)
        errors = rng.binomial(total, 1 / (1 + np.exp(-log_odds)))
        points = [Point(images, int(total - n), total) for images, n in zip((200, 400, 800), errors, strict=True)]
        low, high = Curve(points[:2]).at(800).interval
        covered.append(low <= points[2].right / total <= high)
    # By chance one or two of 25 lie outside.
    assert sum(covered) >= 23


def test_a_training_that_failed_does_not_bend_the_curve() -> None:
    """The network of a quarter has not begun to read, as with very few steps."""
    curve = Curve([Point(100, 0, 200), Point(200, 180, 200), Point(400, 194, 200)])
    assert 0.96 < curve.at(800).share < 0.995
    both = Curve([Point(200, 180, 200), Point(400, 194, 200)])
    assert curve.at(800).share == pytest.approx(both.at(800).share, abs=0.01)
