"""A server and a schedule that keep running over many runs, as those of `make schedule` do for weeks."""

import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import psutil

from tests.chaos.small import Benchmark

_PATIENCE_SECONDS = 300.0
_START_SECONDS = 5.0
_MORE = 1.25


class Served:
    """Runs `python -m flows.serve` on a benchmark."""

    def __init__(self, benchmark: Benchmark, environment: Mapping[str, str]) -> None:
        self._benchmark = benchmark
        self._environment = dict(environment)
        self._seen: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ("--port", str(port), "--cron", "0 0 1 1 *")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.serve", *options],
            cwd=self._benchmark.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("UI: "):
                break
        else:
            raise RuntimeError("python -m flows.serve has ended")
        path = self._benchmark.folder / f".prefect/password-{port}"
        self._environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        self._environment["PREFECT_API_AUTH_STRING"] = path.read_text(encoding="utf-8")
        # The schedule registers itself.
        time.sleep(_START_SECONDS)
        self._usual = len(self._family())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate(timeout=300)

    def run(self) -> int:
        """Start a run and wait until it ends."""
        done = self._benchmark.call(
            sys.executable, "-m", "prefect", "deployment", "run", "benchmark/nightly", "--watch",
            environment=self._environment, check=False, limit=_PATIENCE_SECONDS,
        )  # fmt: skip
        if "Completed" not in done.stdout and "Failed" not in done.stdout:
            raise RuntimeError(f"a run did not end: {done.stdout}\n{done.stderr}")
        self._seen.append(self._now())
        return -1

    def footprint(self) -> str:
        """The current memory and open files of the schedule and its server."""
        memory, files = self._seen[-1]
        return f"{memory / 1e6:.0f} MB, {files} open files"

    def grown(self) -> list[str]:
        """Memory and open files of the server that grew between the second run and the end."""
        if len(self._seen) < 4:
            return []
        names = ("memory of the server", "open files of the server")
        pairs = zip(names, self._seen[1], self._seen[-1], strict=True)
        return [
            f"{name}: {before} after two runs, {after} at the end"
            for name, before, after in pairs
            if after > _MORE * before
        ]

    def _now(self) -> tuple[int, int]:
        """Memory and open files of the server and the schedule, once the processes of the run have ended."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while len(staying := self._family()) > self._usual and time.monotonic() < until:
            time.sleep(0.2)
        return sum(p.memory_info().rss for p in staying), sum(p.num_fds() for p in staying)

    def _family(self) -> list[psutil.Process]:
        top = psutil.Process(self._process.pid)
        return [top, *top.children(recursive=True)]
