"""One command in a session of its own: its output streams, its time is limited, and nothing of it is left behind."""

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
_TAIL = 30
# Between a request to stop and the end of patience.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code, 128 and more for a signal; None if its time was up.

    lines: the last of its output.
    """

    code: int | None
    lines: tuple[str, ...]


class Stopped(Exception):
    """Everything is being ended: nothing is started any more, and what ran was cut short."""


class Processes:
    """The commands that are running, so that all can be ended at once."""

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
        handed_down: Sequence[int],
        say: Callable[[str], None],
    ) -> Ended:
        """Run `command` on `cores`; call `say` with each line that it prints.

        time_limit: seconds. handed_down: file descriptors that it inherits, such as a lock's. Raises Stopped if
        `end_all` was called, before or meanwhile.
        """
        words = [sys.executable, "-I", "-S", str(_LEASH), ",".join(map(str, cores)), *command]
        with self._lock:
            if self._closed:
                raise Stopped
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=handed_down,
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
                # A process that has left the group may hold the pipe open for ever.
                reader.join(_GRACE_SECONDS)
                with self._lock:
                    self._live.discard(process)
        if self._closed:
            raise Stopped
        # A leash that was killed itself.
        return Ended(128 - code if code is not None and code < 0 else code, tuple(lines))

    def end_all(self) -> None:
        """End what is running, with all it started; start nothing more."""
        with self._lock:
            self._closed = True
            live = tuple(self._live)
        for process in live:
            _signal(process, signal.SIGTERM)
        for process in live:
            _end(process)


def _read(process: subprocess.Popen[str], lines: deque[str], say: Callable[[str], None]) -> None:
    assert process.stdout
    for line in process.stdout:
        if text := line.rstrip():
            lines.append(text)
            say(text)


def _end(process: subprocess.Popen[str]) -> None:
    """End the process's group: politely, then not."""
    _signal(process, signal.SIGTERM)
    waited = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < waited:
        process.poll()
        if not _signal(process, 0):
            return
        time.sleep(0.02)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> bool:
    """Send a signal to the group; whether there was anybody."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
