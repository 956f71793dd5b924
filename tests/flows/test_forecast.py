"""The time left of a run: the remaining stages are simulated, and there is no forecast without known durations."""

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


def test_the_remaining_stages_are_simulated() -> None:
    one, two = (Forecast(DUE, cores, (), SECONDS, {}) for cores in ((0,), (0, 1)))
    assert one.seconds({}) == 200
    # long in parallel with short, after and middle; then alone.
    assert two.seconds({}) == 120
    assert two.seconds({"long": 60.0, "middle": 10.0}) == pytest.approx(90)
    # It has taken longer than expected, so it counts as nearly done.
    assert two.seconds({"long": 500.0, "middle": 39.0}) == pytest.approx(70)


def test_measured_durations_set_the_pace() -> None:
    forecast = Forecast(DUE, (0,), (), SECONDS, {})
    forecast.ended("middle", Outcome(made=True, seconds=140.0))
    assert forecast.seconds({}) == pytest.approx(160 * (140 + 60) / (40 + 60))
    forecast.ended("short", Outcome(made=True, seconds=0.0))
    assert forecast.seconds({}) == pytest.approx(150 * 2)


def test_durations_of_another_machine_need_the_pace_of_this_one() -> None:
    forecast = Forecast(DUE, (0,), (), {"short": 10.0}, SECONDS)
    assert forecast.seconds({}) is None
    forecast.ended("short", Outcome(made=True, seconds=5.0))
    assert forecast.seconds({}) is None
    forecast.ended("middle", Outcome(made=True, seconds=20.0))
    assert forecast.seconds({}) == pytest.approx(150 / 2)


def test_there_is_no_forecast_while_an_unknown_stage_is_left() -> None:
    known = {name: took for name, took in SECONDS.items() if name != "short"}
    forecast = Forecast(DUE, (0,), (), known, {})
    assert forecast.seconds({}) is None
    forecast.ended("short", Outcome(made=True, seconds=3.0))
    assert forecast.seconds({}) == 190


def test_dependents_of_a_failure_are_not_counted() -> None:
    forecast = Forecast(DUE, (0,), (), SECONDS, {})
    forecast.ended("short", Outcome(failure="broken"))
    assert forecast.seconds({}) == 140
