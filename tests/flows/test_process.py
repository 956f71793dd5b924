"""Commands that run in separate sessions."""

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.process import Ended, Processes, Stopped
from flows.resources import available_cores


def run(processes: Processes, script: str, say: Callable[[str], None] = lambda _: None, **changed: Any) -> Ended:
    given: dict[str, Any] = {
        "cwd": Path.cwd(),
        "environment": os.environ,
        "cores": available_cores(),
        "time_limit": 30,
        "pass_fds": [],
    }
    return processes.run(["sh", "-c", script], say=say, **{**given, **changed})


def gone(number: str) -> bool:
    """Whether the process has ended; it may still be a zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_output_streams_and_the_code_is_handed_on(tmp_path: Path) -> None:
    output: list[str] = []
    ended = run(Processes(), "echo one; echo two >&2; pwd; exit 3", output.append, cwd=tmp_path)
    assert ended == Ended(3, ("one", "two", str(tmp_path)))
    assert output == list(ended.lines)


def test_a_command_finds_the_python_of_this_environment_first(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho another\n")
    other.chmod(0o755)
    script = "command -v python; echo $PATH"
    for path in (f"{tmp_path}:/usr/bin:/bin", "/usr/bin:/bin"):
        ended = run(Processes(), script, environment={"PATH": path})
        own = Path(sys.executable).parent
        assert ended == Ended(0, (f"{own}/python", f"{own}:{path}"))
    assert run(Processes(), "command -v python", environment={}).lines == (f"{own}/python",)


def test_output_is_read_as_python_wrote_it() -> None:
    script = f"{shlex.quote(sys.executable)} -c 'print(\"5 – 3 · 验\")'"
    for encoding in ("ascii", "latin-1", "utf-16"):
        assert run(Processes(), script, environment={"PYTHONIOENCODING": encoding}).lines == ("5 – 3 · 验",)


def test_a_signal_is_a_code_above_128() -> None:
    assert run(Processes(), "kill -9 $$").code == 137


def test_what_a_command_leaves_running_is_ended() -> None:
    ended = run(Processes(), "trap '' TERM; (while :; do sleep 1; done) & echo $!")
    assert ended.code == 0
    assert gone(ended.lines[0])


def test_time_is_limited() -> None:
    started = time.monotonic()
    ended = run(Processes(), "sleep 60 & echo $!; wait", time_limit=0.5)
    assert ended.code is None
    assert gone(ended.lines[0])
    assert time.monotonic() - started < 50


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tie processes to cores")
def test_a_command_has_the_cores_it_was_given() -> None:
    core = available_cores()[-1]
    ended = run(Processes(), "grep Cpus_allowed_list /proc/self/status", cores=[core])
    assert ended.lines[0].split() == ["Cpus_allowed_list:", str(core)]


def test_all_can_be_ended_and_nothing_starts_after() -> None:
    processes = Processes()
    output: list[str] = []
    ends: list[BaseException] = []

    def work() -> None:
        try:
            run(processes, "echo $$; sleep 60", output.append)
        except Stopped as stopped:
            ends.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    while not output:
        time.sleep(0.01)
    processes.end_all()
    thread.join(300)
    assert len(ends) == 1
    assert gone(output[0])
    with pytest.raises(Stopped):
        run(processes, "true")
