"""Runs trials in processes of their own, one a core, with one progress bar and the time left."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from captchabench.errors import InputError, visible
from captchabench.own.trial import Spec

_SECONDS_BETWEEN_LINES = 30
_CHECKPOINT_SECONDS = "20"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_trials(specs: Sequence[Spec], workers: int, *, progress: bool) -> None:
    """Run `specs` in the order given, at most `workers` at a time.

    Raises InputError with the message of the first that fails; the others are stopped, and go on when called again.
    """
    processes = _Processes()
    with _Bar(specs, enabled=progress) as bar, ThreadPoolExecutor(min(workers, len(specs))) as pool:
        futures = [pool.submit(processes.run, spec, bar.report) for spec in specs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            # Also for Ctrl-C.
            processes.stop()
            for future in futures:
                future.cancel()
            raise


class _Processes:
    """The running processes."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, spec: Spec, report: Callable[[str, float], None]) -> None:
        """Run one trial to its end. report: takes its name and the share of its time that is over."""
        # Nothing else in the environment may change the order of sums.
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        environment.setdefault("CAPTCHABENCH_CHECKPOINT_SECONDS", _CHECKPOINT_SECONDS)
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            process = self._start(environment, stderr)
            if process is None:
                return
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                ended = None
                # A process that could not start has closed its end; its standard error says why.
                with suppress(BrokenPipeError):
                    process.stdin.write(json.dumps(asdict(spec)) + "\n")
                    process.stdin.flush()
                for line in process.stdout:
                    values = json.loads(line)
                    ended = values.get("ended")
                    if ended is None:
                        report(spec.name, _share(spec, values))
                code = process.wait()
            finally:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    with suppress(BrokenPipeError):
                        pipe.close()
                with self._lock:
                    self._running.remove(process)
            if self._stopped:
                return
            if ended:
                raise InputError(ended)
            if ended is None:
                stderr.seek(0)
                raise InputError(_why(code, stderr.read()))
        report(spec.name, 1.0)

    def stop(self) -> None:
        """Kill all processes, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _start(self, environment: dict[str, str], stderr: Any) -> "subprocess.Popen[str] | None":
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "captchabench.own.trial"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
            )
            self._running.append(process)
            return process


def _why(code: int, stderr: str) -> str:
    last = [line for line in stderr.splitlines() if line.strip()][-1:]
    if code < 0:
        return f"a training was killed by signal {-code}, perhaps because memory ran out; the same command goes on"
    return f"a training ended with code {code}: {visible(last[0], 300) if last else 'it printed no error'}"


def _share(spec: Spec, values: dict[str, Any]) -> float:
    """The share of a trial's time that is over."""
    now = sum(spec.seconds[: values["round"]]) + spec.seconds[values["round"]] * values["done"] / values["of"]
    return float(now / sum(spec.seconds))


class _Bar:
    """The progress of all trials together: a bar in a terminal, else a line every half minute."""

    def __init__(self, specs: Sequence[Spec], *, enabled: bool) -> None:
        self._weights = {spec.name: sum(spec.seconds) for spec in specs}
        self._shares = dict.fromkeys(self._weights, 0.0)
        self._enabled = enabled
        self._started = self._said = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not (enabled and self._console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("train", total=sum(self._weights.values()))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, name: str, share: float) -> None:
        """Note the share of a trial's time that is over. Thread-safe."""
        with self._lock:
            self._shares[name] = share
            done = sum(self._weights[name] * share for name, share in self._shares.items())
            self._progress.update(self._task, completed=done)
            now = time.monotonic()
            total = sum(self._weights.values())
            due = now - self._said >= _SECONDS_BETWEEN_LINES and 0 < done < total
            if not self._enabled or self._console.is_terminal or not due:
                return
            self._said = now
            left = (now - self._started) * (total - done) / done
            self._console.print(f"training: {done / total:.0%}, about {_duration(left)} left")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(5, 5 * round(seconds / 5)):.0f} s"
