"""Why a stage failed, and whether the same may go well the next time."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from flows.process import Ended

# What DVC says of a command of dvc.yaml.
_EXITED = re.compile(r"exited with (-?\d+)$")
OUT_OF_MEMORY = "the GPU's memory was full"
_PASSING = {
    "DVC's lock was taken": re.compile(r"Unable to acquire lock|is busy, it is being blocked|database is locked"),
    OUT_OF_MEMORY: re.compile(r"CUDA out of memory|OutOfMemoryError|CUDNN_STATUS_ALLOC_FAILED"),
    "the network failed": re.compile(
        r"ConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|Temporary failure in name resolution"
        r"|Connection (reset|refused|aborted)|Network is unreachable|\b(429|502|503|504) (Server|Client) Error"
    ),
}


@dataclass(eq=False)
class Failure(Exception):
    """A stage that failed. reason: one line. passing: another try may do. lines: the last of its output."""

    stage: str
    reason: str
    passing: bool
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


def failure_of(stage: str, ended: Ended, time_limit: float) -> Failure | None:
    """What went wrong, None if nothing did. time_limit: seconds that the stage was given."""
    if ended.code == 0:
        return None
    reason, passing = _judge(ended, time_limit)
    return Failure(stage, reason, passing, ended.lines)


def _judge(ended: Ended, time_limit: float) -> tuple[str, bool]:
    if ended.code is None:
        return f"not done after {time_limit:g} s", False
    # A mistake of the user's, which the stage explains in one line: it stays one.
    mistake = next((line for line in reversed(ended.lines) if line.startswith("error: ")), None)
    codes = [int(found[1]) for line in ended.lines if (found := _EXITED.search(line))]
    code = codes[-1] if codes else ended.code
    if mistake and code == 1:
        return mistake.removeprefix("error: "), False
    for reason, pattern in _PASSING.items():
        if any(pattern.search(line) for line in ended.lines):
            return reason, True
    # Killed: by the kernel, for want of memory, or by somebody.
    if code < 0 or (code > 128 and code - 128 in set(signal.Signals)):
        return f"killed by {signal.Signals(-code if code < 0 else code - 128).name}", True
    return _last_error(ended.lines) or f"exit code {code}", False


def _last_error(lines: Sequence[str]) -> str:
    """The last line of a traceback, or what DVC says."""
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b|ERROR: ", line)]
    own = [line for line in errors if not line.startswith("ERROR: ")]
    return (own or errors or [""])[-1].removeprefix("ERROR: ")
