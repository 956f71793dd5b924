"""The output of a run on a terminal and in a pipe."""

import io

import pytest
from rich.console import Console

from flows.dispatch import Outcome
from flows.forecast import Forecast
from flows.graph import Stage
from flows.resources import Need
from flows.screen import Screen, format_duration

DUE = [Stage("train@d-m-0", (), Need()), Stage("predict@d-m-0", ("train@d-m-0",), Need())]
SECONDS = {"train@d-m-0": 300.0, "predict@d-m-0": 60.0}


def screen(console: Console) -> Screen:
    return Screen(len(DUE), Forecast(DUE, (0,), (), SECONDS, {}), console)


def test_in_a_pipe_there_is_a_line_for_each_stage_that_has_ended() -> None:
    out = io.StringIO()
    with screen(Console(file=out, width=40)) as shown:
        shown.began("train@d-m-0")
        shown.ended("train@d-m-0", Outcome(made=True, seconds=300.0))
        shown.say("    a row that is longer than the console is wide, by far")
        shown.began("predict@d-m-0")
        shown.ended("predict@d-m-0", Outcome(failure="broken"))
    assert out.getvalue().splitlines() == [
        "1 of 2  train@d-m-0  5 min · about 60 s left",
        "    a row that is longer than the console is wide, by far",
        "2 of 2  predict@d-m-0  FAILED: broken",
    ]


def test_on_a_terminal_what_runs_is_shown_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    with screen(Console(file=out, width=80, force_terminal=True)) as shown:
        shown.began("train@d-m-0")
        shown.say("a line")
        below = out.getvalue().partition("a line")[2]
    assert "train@d-m-0  0 s" in below
    assert "0 of 2 done" in below
    assert "about 6 min left" in below


def test_durations_are_in_words() -> None:
    seconds = (0.4, 99.4, 99.6, 3540, 3599, 3960)
    assert [format_duration(one) for one in seconds] == ["0 s", "99 s", "2 min", "59 min", "1 h 00 min", "1 h 06 min"]
