"""Runs a command in a new session: streams its output, limits its time and ends all processes that it started."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LEASH = Path(__file__).with_name("leash.py")
# Output lines that are kept for error messages.
_TAIL = 30
# Between SIGTERM and SIGKILL.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code, 128 plus the number for a signal; None after a timeout.

    lines: the last lines of its output.
    """

    code: int | None
    lines: tuple[str, ...]


class Stopped(Exception):
    """`end_all` was called: running commands were ended, and no more are started."""


class Processes:
    """The running commands, which `end_all` ends together."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        cores: Sequence[int],
        time_limit: float,
        pass_fds: Sequence[int],
        say: Callable[[str], None],
    ) -> Ended:
        """Run `command` on `cores`; call `say` with each line that it prints.

        It finds the programs of this Python's environment first, whether that environment is activated or not.
        time_limit: seconds. pass_fds: file descriptors that it inherits, such as a lock's. Raises Stopped if
        `end_all` was called before or during the run.
        """
        arguments = [sys.executable, "-I", "-S", str(_LEASH), ",".join(map(str, cores)), *command]
        with self._lock:
            if self._closed:
                raise Stopped
            process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env={**environment, "PATH": _path(environment), "PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                pass_fds=pass_fds,
            )
            self._live.add(process)
        lines: deque[str] = deque(maxlen=_TAIL)
        reader = threading.Thread(target=_read, args=(process, lines, say), daemon=True)
        reader.start()
        code = None
        with process:
            try:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(time_limit)
            finally:
                _end(process)
                # A process that has left the group may keep the pipe open forever.
                reader.join(_GRACE_SECONDS)
                with self._lock:
                    self._live.discard(process)
        if self._closed:
            raise Stopped
        # A negative code: leash.py itself was killed.
        return Ended(128 - code if code is not None and code < 0 else code, tuple(lines))

    def end_all(self) -> None:
        """End all running commands and the processes that they started; start no more."""
        with self._lock:
            self._closed = True
            live = tuple(self._live)
        for process in live:
            _signal(process, signal.SIGTERM)
        for process in live:
            _end(process)


def _path(environment: Mapping[str, str]) -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH") or os.defpath])


def _read(process: subprocess.Popen[str], lines: deque[str], say: Callable[[str], None]) -> None:
    assert process.stdout
    for line in process.stdout:
        if text := line.rstrip():
            lines.append(text)
            say(text)


def _end(process: subprocess.Popen[str]) -> None:
    """End the process group: SIGTERM, then SIGKILL."""
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        process.poll()
        if not _signal(process, 0):
            return
        time.sleep(0.02)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> bool:
    """Send a signal to the process group; return whether it had any process."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
