"""A machine, or one device of it, that runs stages for a benchmark on another: one at a time, in its own clone.

`python -m flows.worker tls://HOST:8786`, in the clone. It works for runs at the clone's own commit alone, and listens
on one port of the interface that reaches the scheduler.
"""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from distributed import Security, Status, Worker, get_worker

from captchabench.errors import InputError
from flows.address import INSECURE, check_address, facing
from flows.commit import head
from flows.connection import OnePort, reach
from flows.process import Ended, Processes
from flows.recovery import mend, run_lock
from flows.resources import Share, own_cores, own_devices
from flows.runcache import check_clean, opened

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A stage to run. text: what `flows.dvc_stage make` reads. time_limit: seconds, inputs and outputs included.

    environment: variables beside those of the worker. topic: where its output goes, line by line.
    """

    text: str
    time_limit: float
    environment: Mapping[str, str]
    topic: str


@dataclass(frozen=True)
class Done:
    """How a job ended. result: what `flows.dvc_stage take` reads; empty if there is none. where: the worker."""

    ended: Ended
    result: str
    where: str


class StageWorker(OnePort, Worker):
    """Dask's worker, and the clone that it runs stages in. lock: what they inherit."""

    def __init__(self, address: str, own: Security, clone: Path, lock: int) -> None:
        super().__init__(
            address,
            # Without it Dask listens on all interfaces.
            host=f"[{facing(address)}]",
            security=own,
            name=f"{socket.gethostname()}:{clone}",
            nthreads=1,
            resources={slot(head(clone)): 1},
            # Dask imports from there, and its own choice in /tmp may be anybody's.
            local_directory=str(clone / ".dvc/tmp"),
            # Stages are processes of their own, and the machine's.
            memory_limit=0,
            dashboard=False,
        )
        self.clone, self.lock = clone, lock


def slot(commit: str) -> str:
    """What Dask calls the right to run one stage at a commit: jobs go where there is one."""
    return f"commit-{commit}"


def run_job(job: Job) -> Done:
    """Run a job in this worker's clone. Raises Stopped if whoever wanted it has gone."""
    # The program's own class and this module's are two where it was started with -m.
    worker = cast(StageWorker, get_worker())
    processes, over = Processes(), threading.Event()
    key = worker.get_current_task()
    watch = threading.Thread(target=_end_with_the_wish, args=(worker, key, processes, over), daemon=True)
    watch.start()
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder, "job.json"), Path(folder, "result.json")
        given.write_text(job.text, encoding="utf-8")
        share = Share(own_cores(), own_devices())
        try:
            ended = processes.run(
                [sys.executable, "-m", "flows.dvc_stage", "make", str(given), str(result)],
                cwd=worker.clone,
                environment={**os.environ, **share.environment(), **job.environment},
                cores=share.cores,
                time_limit=job.time_limit,
                handed_down=[worker.lock],
                say=lambda line: worker.log_event(job.topic, line),
            )
        finally:
            over.set()
            watch.join()
        text = result.read_text(encoding="utf-8") if result.exists() else ""
        return Done(ended, text, str(worker.name))


def _end_with_the_wish(worker: Worker, key: Any, processes: Processes, over: threading.Event) -> None:
    """End the job's command once nobody wants it: Dask leaves alone what has begun."""
    while not over.wait(_LOOK_SECONDS):
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled" or worker.status in (Status.closing, Status.closed, Status.failed):
            processes.end_all()
            return


async def _serve(address: str, own: Security, clone: Path, lock: int) -> None:
    async with StageWorker(address, own, clone, lock) as worker:
        print(f"{worker.name} waits for stages from {address} at {worker.address} (Ctrl-C ends it)", flush=True)
        await worker.finished()


def main(words: Sequence[str] | None = None) -> None:
    """Run stages for benchmarks on other machines, until interrupted or the scheduler ends."""
    parser = argparse.ArgumentParser(prog="python -m flows.worker", description=main.__doc__)
    parser.add_argument("scheduler", help="where flows.scheduler listens, tls://HOST:8786")
    parser.add_argument("--insecure", action="store_true", help=INSECURE)
    given = parser.parse_args(words)
    address = given.scheduler
    check_address(address, given.insecure)
    clone = Path.cwd()
    if not (clone / "dvc.yaml").exists():
        raise InputError(f"{clone}: not a clone of the benchmark; start the worker in one of its own")
    with run_lock(clone, "a worker") as lock:
        for line in mend(clone):
            print(line)
        with opened(clone) as repo:
            check_clean(repo)
        try:
            asyncio.run(_serve(address, reach(address, "worker"), clone, lock.handle))
            print("the scheduler has ended")
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
