"""Why a stage failed, and whether a retry may succeed."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from flows.process import Ended

# DVC's message for a command of dvc.yaml that failed.
_EXIT_CODE = re.compile(r"exited with (-?\d+)$")
OUT_OF_MEMORY = "the GPU's memory was full"
_TRANSIENT = {
    "DVC's lock was taken": re.compile(r"Unable to acquire lock|is busy, it is being blocked|database is locked"),
    OUT_OF_MEMORY: re.compile(r"CUDA out of memory|OutOfMemoryError|CUDNN_STATUS_ALLOC_FAILED"),
    "the network failed": re.compile(
        r"ConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|Temporary failure in name resolution"
        r"|Connection (reset|refused|aborted)|Network is unreachable|\b(429|502|503|504) (Server|Client) Error"
    ),
}


@dataclass(eq=False)
class Failure(Exception):
    """A stage that failed. reason: one line. transient: a retry may succeed. lines: the last lines of its output."""

    stage: str
    reason: str
    transient: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


def failure_of(stage: str, ended: Ended, time_limit: float) -> Failure | None:
    """The failure of a stage; None if it succeeded. time_limit: of the stage, in seconds."""
    if ended.code == 0:
        return None
    reason, transient = _classify(ended, time_limit)
    return Failure(stage, reason, transient, ended.lines)


def _classify(ended: Ended, time_limit: float) -> tuple[str, bool]:
    if ended.code is None:
        return f"not done after {time_limit:g} s", False
    # A user's mistake, which the stage explains in one line, is not retried.
    mistake = next((line for line in reversed(ended.lines) if line.startswith("error: ")), None)
    codes = [int(match[1]) for line in ended.lines if (match := _EXIT_CODE.search(line))]
    code = codes[-1] if codes else ended.code
    if mistake and code == 1:
        return mistake.removeprefix("error: "), False
    for reason, pattern in _TRANSIENT.items():
        if any(pattern.search(line) for line in ended.lines):
            return reason, True
    # Killed, for example by the kernel when out of memory.
    if code < 0 or (code > 128 and code - 128 in set(signal.Signals)):
        return f"killed by {signal.Signals(-code if code < 0 else code - 128).name}", True
    return _last_error(ended.lines) or f"exit code {code}", False


def _last_error(lines: Sequence[str]) -> str:
    """The last line of a traceback; without one, DVC's error message."""
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b|ERROR: ", line)]
    python_errors = [line for line in errors if not line.startswith("ERROR: ")]
    return (python_errors or errors or [""])[-1].removeprefix("ERROR: ")
