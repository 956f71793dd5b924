"""`make repro`: run stale stages on all cores of this machine, without Prefect and without a server.

As in the flow, DVC decides which stages are stale, and stages run in the same order. `dvc repro` gives the same
results, but runs one stage at a time.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from dvc.lock import LockError, make_lock  # type: ignore[import-untyped]
from rich.console import Console

from captchabench.errors import InputError
from captchabench.storage.files import advice
from captchabench.storage.lockfile import keep_lock_file
from captchabench.streams import allow_any_text
from flows.dispatch import Outcome, dispatch, failure_summary
from flows.downloads import check_downloads
from flows.durations import committed_seconds, keep_seconds, read_seconds
from flows.failures import Failure
from flows.forecast import Forecast
from flows.graph import Graph, Stage, read_graph
from flows.process import Processes, Stopped
from flows.recovery import repair, run_lock
from flows.resources import Pool, Share, available_cores, available_devices
from flows.rows import Rows
from flows.runner import RETRY_PAUSES, Made, Runner
from flows.screen import Screen

# The output of all stages. DVC excludes this folder from Git.
LOG = Path(".dvc/tmp/repro.log")

End = Callable[[Callable[[], Outcome]], None]


class Run:
    """One run. root: the repository's folder. lock: the run's lock, which stages inherit."""

    def __init__(self, root: Path, lock: int) -> None:
        self._root = root
        self._processes = Processes()
        self._runner = Runner(root, self._processes, lock)
        self._over = threading.Event()
        self._log = (root / LOG).open("w", encoding="utf-8")
        self._logging = threading.Lock()

    def run(self, graph: Graph, console: Console) -> dict[str, Outcome]:
        """Run the due stages; return the outcome of each. No stage outlives the run, however it ends."""
        due = graph.due()
        cores, devices = available_cores(), available_devices()
        local, committed = read_seconds(self._root), committed_seconds(self._root)
        known = [
            {name: took for name, took in seconds.items() if name not in graph.other} for seconds in (local, committed)
        ]
        self._rows = Rows(self._root, graph.stages, due)
        up_to_date = len(graph.stages) - len(due)
        with self._log, Screen(len(due), Forecast(due, cores, devices, *known), console) as self._screen:
            self._screen.say(f"{len(due)} stages to run on {len(cores)} cores, {up_to_date} are up to date")
            try:
                return dispatch(due, Pool(cores, devices), {**committed, **local}, self._start)
            finally:
                self._over.set()
                self._processes.end_all()

    def _start(self, stage: Stage, share: Share, end: End) -> None:
        self._screen.began(stage.name)
        threading.Thread(target=self._work, args=(stage, share, end), daemon=True).start()

    def _work(self, stage: Stage, share: Share, end: End) -> None:
        outcome = self._try(stage, share)
        end(partial(self._ended, stage.name, outcome))

    def _try(self, stage: Stage, share: Share) -> Outcome:
        """Run a stage, and retry it after transient failures."""
        started = time.monotonic()
        say = partial(self._write, stage.name)
        for pause in (*RETRY_PAUSES, None):
            try:
                made = self._runner.run(stage, share, say)
            except Failure as failure:
                if failure.transient and pause is not None:
                    say(f"{failure.reason}; the next try is in {pause:g} s")
                    if not self._over.wait(pause):
                        continue
                return Outcome(failure=failure.reason, lines=failure.lines, seconds=time.monotonic() - started)
            except Stopped:
                break
            except Exception as error:
                # Without an outcome, dispatch would wait for this stage forever.
                return Outcome(failure=f"{type(error).__name__}: {error}")
            took = time.monotonic() - started if made is Made.RUN else 0.0
            return Outcome(made=made is not Made.NOTHING, seconds=took)
        return Outcome(failure="the run was ended")

    def _ended(self, name: str, outcome: Outcome) -> Outcome:
        if outcome.made:
            keep_lock_file(self._root)
        if outcome.made and outcome.seconds:
            keep_seconds(self._root, {name: outcome.seconds})
        self._screen.ended(name, outcome)
        if row := self._rows.ended(name, outcome):
            self._screen.say(f"    {row}")
        return outcome

    def _write(self, name: str, line: str) -> None:
        # ValueError: the log is closed, and a process that left its group still prints. OSError: for example a full
        # disk, which the stage reports.
        with self._logging, suppress(ValueError, OSError):
            self._log.write(f"{name}: {line}\n")
            self._log.flush()


def run(root: Path, console: Console) -> Mapping[str, Outcome]:
    """Repair what a killed run left, then run the stale stages of the repository at `root`; return their outcomes.

    Raises InputError if another run is at work, or if DVC cannot read the repository.
    """
    with run_lock(root, f"make repro, process {os.getpid()}", keep_left_behind=True) as lock:
        for line in check_downloads(root):
            print(line, file=sys.stderr)
        # While plain DVC is running, nothing is repaired.
        with suppress(LockError), make_lock(str(root / ".dvc/tmp/lock")):
            for line in repair(root):
                print(line, file=sys.stderr)
        graph = read_graph(root)
        if not graph.changed:
            console.print(f"all {len(graph.stages)} stages are up to date")
            return {}
        return Run(root, lock.handle).run(graph, console)


def main(argv: Sequence[str] | None = None) -> int:
    """Run stale stages on all cores. Returns 1 if a stage failed."""
    allow_any_text()
    argparse.ArgumentParser(prog="python -m flows.local", description=main.__doc__).parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # `nohup` sets SIGHUP to be ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    root = Path()
    try:
        if not ((root / "dvc.yaml").exists() and (root / ".dvc").is_dir()):
            raise InputError(f"{root.resolve()}: has no dvc.yaml and .dvc; run this in the benchmark's folder")
        failed = failure_summary(run(root, Console()))
    except KeyboardInterrupt:
        print("interrupted; run it again to continue from here", file=sys.stderr)
        return 128 + signal.SIGINT
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or root}: {error.strerror or error}; {advice(error)}", file=sys.stderr)
        return 1
    if failed:
        print(f"\n{failed}\noutput of all stages: {LOG}", file=sys.stderr)
    return 1 if failed else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
