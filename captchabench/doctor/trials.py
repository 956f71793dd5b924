"""Runs the trial of a device in a separate process and reads its output line by line."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from threading import Timer
from typing import Any

from captchabench.errors import visible

_MAX_MESSAGE = 300


def results_of(visible_devices: str, compiled: bool, limit: float) -> Iterator[dict[str, Any]]:
    """Run `captchabench.doctor.trial` with CUDA_VISIBLE_DEVICES set to `visible_devices`; yield the objects it writes.

    The last object is {"ended": problem}, with an empty string if there is none. A process that hangs is killed after
    `limit` seconds.
    """
    command = [sys.executable, "-m", "captchabench.doctor.trial", *["compile"] * compiled]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible_devices}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
        timer = Timer(limit, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        finally:
            process.kill()
            in_time = timer.is_alive()
            timer.cancel()
        stderr.seek(0)
        last = [line for line in stderr.read().splitlines() if line.strip()][-1:]
    if not code:
        yield {"ended": ""}
    elif not in_time:
        yield {"ended": f"it did not respond; it was killed after {limit:.0f} s"}
    else:
        reason = visible(last[0], _MAX_MESSAGE) if last else "it printed no error"
        yield {"ended": f"its process ended with {_exit_status(code)}: {reason}"}


def _exit_status(code: int) -> str:
    return f"code {code}" if code > 0 else f"signal {-code}"
