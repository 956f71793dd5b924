"""Work spread over processes."""

import os

import pytest

from captchabench.data import pool
from captchabench.errors import InputError


def test_results_come_in_order_whoever_works(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(pool.ordered(abs, range(-30, 0), workers=1)) == list(range(30, 0, -1))
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0)
    assert list(pool.ordered(abs, range(-30, 0), workers=3)) == list(range(30, 0, -1))
    assert list(pool.ordered(abs, [])) == []


def test_short_work_stays_in_this_process_and_long_work_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    ask = ["__import__('os').getpid()"] * 4
    assert set(pool.ordered(eval, ask, workers=2)) == {here}
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0)
    # A built-in function: the workers need not be able to import a test.
    assert here not in set(pool.ordered(eval, ask, workers=2))


def test_an_error_in_a_worker_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0)
    with pytest.raises(ValueError, match="invalid literal"):
        list(pool.ordered(int, ["1", "x", "3"], workers=2))


def test_a_killed_process_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0)
    with pytest.raises(InputError, match="was killed, for want of memory perhaps; run it again"):
        list(pool.ordered(eval, ["__import__('os').kill(__import__('os').getpid(), 9)"] * 4, workers=2))
