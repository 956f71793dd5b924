"""The parallel map over worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captchabench import pool
from captchabench.errors import InputError


def test_results_come_in_order_with_any_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(InputError, match="was killed, perhaps because memory ran out; run it again"):
        list(pool.ordered(eval, ["__import__('os').kill(__import__('os').getpid(), 9)"] * 4, workers=2))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_workers_end_with_a_process_that_is_killed() -> None:
    program = """
from captchabench import pool
pool.PATIENCE_SECONDS = 0
asked = ["__import__('os').getpid()"] * 2 + ["__import__('time').sleep(60)"] * 10
for number in pool.ordered(eval, asked, workers=2):
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        worker = Path(f"/proc/{int(process.stdout.readline())}")
        assert worker.exists()
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while worker.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not worker.exists()
