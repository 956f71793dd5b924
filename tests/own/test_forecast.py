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


def test_intervals_cover_what_is_measured_later() -> None:
    """Fitted on a quarter and a half of simulated sets, the interval holds what the whole reads."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        exponent, log_odds = rng.uniform(0.3, 2), rng.uniform(-4.5, 0.5)
        points = []
        for images in (200, 400, 800):
            # Two trainings on equally many images differ, too.
            noise = rng.normal(0, 0.2)
            error = 1 / (1 + np.exp(-(log_odds - exponent * np.log(images / 800) + noise)))
            points.append(Point(images, int(rng.binomial(200, 1 - error)), 200))
        low, high = Curve(points[:2]).at(800).interval
        covered.append(low <= points[2].right / 200 <= high)
    assert np.mean(covered) >= 0.9
