"""The trials of all devices: a process each, read line by line as it goes on."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from threading import Timer
from typing import Any

from captchabench.errors import visible

_MOST_LETTERS = 300


def results_of(visible_devices: str, compiled: bool, limit: float) -> Iterator[dict[str, Any]]:
    """What `captchabench.doctor.trial` writes, an object a line, where it sees `visible_devices` alone.

    The last one is {"ended": what is wrong}, empty where nothing is: a process that hangs is ended after `limit`
    seconds.
    """
    command = [sys.executable, "-m", "captchabench.doctor.trial", *["compile"] * compiled]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible_devices}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)
        late = Timer(limit, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        finally:
            process.kill()
            timely = late.is_alive()
            late.cancel()
        said.seek(0)
        last = [line for line in said.read().splitlines() if line.strip()][-1:]
    if not code:
        yield {"ended": ""}
    elif not timely:
        yield {"ended": f"it answered no more; it was ended after {limit:.0f} s"}
    else:
        why = visible(last[0], _MOST_LETTERS) if last else "it said nothing"
        yield {"ended": f"its process ended with {_told(code)}: {why}"}


def _told(code: int) -> str:
    return f"code {code}" if code > 0 else f"signal {-code}"
