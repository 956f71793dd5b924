"""A Dask worker that runs stages for a benchmark on another machine: one at a time, in its own clone.

Start it in the clone: `python -m flows.worker tls://HOST:8786`. It only serves runs at the commit of its clone. It
listens on one port of the interface that reaches the scheduler.
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
from captchabench.git import head
from flows import run_command
from flows.address import INSECURE, check_address, local_interface
from flows.connection import OnePort, accepted_certificates
from flows.process import Ended, Processes
from flows.recovery import repair, run_lock
from flows.resources import Share, available_cores, available_devices
from flows.runcache import check_clean, open_repository

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A stage to run. text: the job file of `flows.dvc_stage make`. time_limit: seconds, including data transfer.

    environment: variables added to those of the worker. topic: the Dask topic that gets its output, line by line.
    """

    text: str
    time_limit: float
    environment: Mapping[str, str]
    topic: str


@dataclass(frozen=True)
class Done:
    """How a job ended. result: the result file of `flows.dvc_stage take`, empty if none. worker: its name."""

    ended: Ended
    result: str
    worker: str


class StageWorker(OnePort, Worker):
    """Dask's worker and the clone in which it runs stages. lock: the handle of the run lock, which stages inherit."""

    def __init__(self, address: str, certificates: Security, clone: Path, lock: int) -> None:
        super().__init__(
            address,
            # Otherwise Dask listens on all interfaces.
            host=f"[{local_interface(address)}]",
            security=certificates,
            name=f"{socket.gethostname()}:{clone}",
            nthreads=1,
            resources={slot_name(head(clone)): 1},
            # Dask imports modules from this folder. Its default is in /tmp, where other users can write.
            local_directory=str(clone / ".dvc/tmp"),
            # Stages are separate processes, whose memory Dask does not limit.
            memory_limit=0,
            dashboard=False,
        )
        self.clone, self.lock = clone, lock


def slot_name(commit: str) -> str:
    """The name of the Dask resource that a worker at `commit` offers. Jobs are sent only to workers that offer it."""
    return f"commit-{commit}"


def run_job(job: Job) -> Done:
    """Run a job in this worker's clone. Raises Stopped if the client has cancelled it."""
    # A cast, not isinstance: started with -m, the class exists twice, in __main__ and in flows.worker.
    worker = cast(StageWorker, get_worker())
    processes, over = Processes(), threading.Event()
    key = worker.get_current_task()
    watch = threading.Thread(target=_end_when_cancelled, args=(worker, key, processes, over), daemon=True)
    watch.start()
    with tempfile.TemporaryDirectory() as folder:
        job_file, result = Path(folder, "job.json"), Path(folder, "result.json")
        job_file.write_text(job.text, encoding="utf-8")
        share = Share(available_cores(), available_devices())
        try:
            ended = processes.run(
                [sys.executable, "-m", "flows.dvc_stage", "make", str(job_file), str(result)],
                cwd=worker.clone,
                environment={**os.environ, **share.environment(), **job.environment},
                cores=share.cores,
                time_limit=job.time_limit,
                pass_fds=[worker.lock],
                say=lambda line: worker.log_event(job.topic, line),
            )
        finally:
            over.set()
            watch.join()
        text = result.read_text(encoding="utf-8") if result.exists() else ""
        return Done(ended, text, str(worker.name))


def _end_when_cancelled(worker: Worker, key: Any, processes: Processes, over: threading.Event) -> None:
    """End the job's command when its task is cancelled. Dask itself does not stop a task that has started."""
    while not over.wait(_POLL_SECONDS):
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled" or worker.status in (Status.closing, Status.closed, Status.failed):
            processes.end_all()
            return


async def _serve(address: str, certificates: Security, clone: Path, lock: int) -> None:
    async with StageWorker(address, certificates, clone, lock) as worker:
        print(f"{worker.name} waits for stages from {address} at {worker.address} (Ctrl-C ends it)", flush=True)
        await worker.finished()


def main(argv: Sequence[str] | None = None) -> None:
    """Run stages for benchmarks on other machines until interrupted or until the scheduler ends."""
    parser = argparse.ArgumentParser(prog="python -m flows.worker", description=main.__doc__)
    parser.add_argument("scheduler", help="where flows.scheduler listens, tls://HOST:8786")
    parser.add_argument("--insecure", action="store_true", help=INSECURE)
    arguments = parser.parse_args(argv)
    address = arguments.scheduler
    check_address(address, arguments.insecure)
    clone = Path.cwd()
    if not (clone / "dvc.yaml").exists():
        raise InputError(f"{clone}: not a clone of the benchmark; start the worker in a clone that nothing else uses")
    with run_lock(clone, "a worker") as lock:
        for line in repair(clone):
            print(line)
        with open_repository(clone) as repo:
            check_clean(repo)
        try:
            asyncio.run(_serve(address, accepted_certificates(address, "worker"), clone, lock.handle))
            print("the scheduler has ended")
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    run_command(main)
