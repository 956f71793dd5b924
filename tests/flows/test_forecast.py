"""How long a run has to go: what is left is played through, and nothing is said of what is not known."""

import pytest

from flows.dispatch import Outcome
from flows.forecast import Forecast
from flows.graph import Stage
from flows.resources import Need

DUE = [
    Stage("long", (), Need()),
    Stage("short", (), Need()),
    Stage("middle", (), Need()),
    Stage("after", ("short",), Need()),
    Stage("alone", ("long", "middle", "after"), Need(cpus="all")),
]
SECONDS = {"long": 100.0, "short": 10.0, "middle": 40.0, "after": 30.0, "alone": 20.0}


def test_what_is_left_is_played_through() -> None:
    one, two = (Forecast(DUE, cores, (), SECONDS, {}) for cores in ((0,), (0, 1)))
    assert one.seconds({}) == 200
    # long beside short, after and middle; then alone.
    assert two.seconds({}) == 120
    assert two.seconds({"long": 60.0, "middle": 10.0}) == pytest.approx(90)
    # Longer than it should take: it is taken for nearly done.
    assert two.seconds({"long": 500.0, "middle": 39.0}) == pytest.approx(70)


def test_what_was_seen_sets_the_pace() -> None:
    forecast = Forecast(DUE, (0,), (), SECONDS, {})
    forecast.ended("middle", Outcome(made=True, seconds=140.0))
    assert forecast.seconds({}) == pytest.approx(160 * (140 + 60) / (40 + 60))
    forecast.ended("short", Outcome(made=True, seconds=0.0))
    assert forecast.seconds({}) == pytest.approx(150 * 2)


def test_another_machines_seconds_say_nothing_before_this_ones_pace_is_known() -> None:
    forecast = Forecast(DUE, (0,), (), {"short": 10.0}, SECONDS)
    assert forecast.seconds({}) is None
    forecast.ended("short", Outcome(made=True, seconds=5.0))
    assert forecast.seconds({}) is None
    forecast.ended("middle", Outcome(made=True, seconds=20.0))
    assert forecast.seconds({}) == pytest.approx(150 / 2)


def test_nothing_is_said_of_what_is_not_known_until_it_is_done() -> None:
    known = {name: took for name, took in SECONDS.items() if name != "short"}
    forecast = Forecast(DUE, (0,), (), known, {})
    assert forecast.seconds({}) is None
    forecast.ended("short", Outcome(made=True, seconds=3.0))
    assert forecast.seconds({}) == 190


def test_a_failure_takes_what_needs_it_out_of_the_count() -> None:
    forecast = Forecast(DUE, (0,), (), SECONDS, {})
    forecast.ended("short", Outcome(failure="broken"))
    assert forecast.seconds({}) == 140
