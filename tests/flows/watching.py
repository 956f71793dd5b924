"""The processes that run in a pipeline's folder, and waiting for conditions."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc")


def alive(pipeline: Any) -> list[str]:
    """The command lines of processes that run in the pipeline's folder."""
    result = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == pipeline.folder:
                    result.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return [line for line in result if line]


def await_that(happens: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.02)
