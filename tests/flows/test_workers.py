"""A run on two workers with separate clones, over TLS. Lost work is repeated, and nothing else is."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from captchabench.errors import InputError
from captchabench.git import head
from flows import ROOT
from flows import benchmark as flow
from flows.process import Stopped
from flows.runcache import check_shared
from flows.workers import Workers
from tests.flows import certificates
from tests.flows.listening import own_address, scheduler

STAGES = ["make-a", "make-b", "read-a", "read-b", "table"]
# Reports where it runs, and does not end the first time.
STUCK = """
if not os.path.exists({begun!r}):
    with open({begun!r} + ".new", "w") as file:
        file.write(f"{{os.getpid()}} {{os.getcwd()}}")
    os.rename({begun!r} + ".new", {begun!r})
    time.sleep(100)
"""


@dataclass
class Farm:
    """A coordinator's pipeline, a scheduler, and two workers, by name of their clone."""

    pipeline: Any
    address: str
    workers: dict[str, subprocess.Popen[bytes]]
    folder: Path

    def stick(self, stage: str) -> Path:
        """Let a stage hang the first time. Returns the file that says where it runs."""
        begun = self.folder / f"{stage}.begun"
        (self.folder / "orders" / f"{stage}.py").write_text(STUCK.format(begun=str(begun)))
        return begun

    def finished(self) -> list[str]:
        """The stages that ended, in any clone."""
        return sorted((self.folder / "done.txt").read_text().split())

    def clone(self, name: str) -> Any:
        """A clone of the pipeline at its commit, as on another machine."""
        other = object.__new__(type(self.pipeline))
        other.folder = self.folder / name
        self.pipeline.call("git", "clone", "-q", str(self.pipeline.folder), str(other.folder))
        return other


def commit(pipeline: Any) -> None:
    pipeline.call("git", "add", "-A")
    pipeline.call("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a commit")


def await_that(happens: Any, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def farm(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("farm")
    pipeline = object.__new__(type(first))
    pipeline.folder = folder / "own"
    shutil.copytree(first.folder, pipeline.folder)
    pipeline.write(".git/info/exclude", "ran.txt\n")
    pipeline.dvc("remote", "add", "--default", "shared", str(folder / "remote"))
    commit(pipeline)
    (folder / "orders").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERS", str(folder / "orders"))
        patch.setenv("DONE", str(folder / "done.txt"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setattr(flow, "publish", lambda *_: [])
        own = certificates.make(folder / "certificates")
        told = certificates.settings(own, own)
        for name, value in certificates.environment(told).items():
            patch.setenv(name, value)
        with dask.config.set(told), scheduler(f"tls://{own_address()}:0") as (_, address):
            yield from _at_work(pipeline, address, folder)


def _at_work(pipeline: Any, address: str, folder: Path) -> Iterator[Farm]:
    farm = Farm(pipeline, address, {}, folder)
    for name in ("one", "two"):
        other = farm.clone(name)
        other.write(".git/info/exclude", "ran.txt\n")
        command = [sys.executable, "-m", "flows.worker", farm.address]
        farm.workers[name] = subprocess.Popen(command, cwd=other.folder)
    try:
        yield farm
    finally:
        for worker in farm.workers.values():
            worker.kill()
            worker.wait()


def gone(number: str) -> bool:
    return not psutil.pid_exists(int(number)) or psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE


def test_the_end_of_a_run_ends_its_stages_on_workers(farm: Farm) -> None:
    begun = farm.stick("read-a")
    farm.pipeline.call(sys.executable, "-m", "flows.dvc_stage", "run", "make@a")
    job = farm.folder / "job.json"
    farm.pipeline.call(sys.executable, "-m", "flows.dvc_stage", "offer", "read@a", str(job))
    workers = Workers(farm.address, head(farm.pipeline.folder))
    workers.await_one()
    ends: list[BaseException] = []

    def work() -> None:
        try:
            workers.run("read@a", job.read_text(), time_limit=60, environment={}, say=lambda _: None)
        except Stopped as stopped:
            ends.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    await_that(begun.exists)
    number = begun.read_text().split()[0]
    assert not gone(number)
    workers.close()
    thread.join(300)
    assert len(ends) == 1
    await_that(lambda: gone(number))

    with pytest.raises(InputError, match=r"no worker at commit 000000000 .* some at others: .*two; there: check out"):
        Workers(farm.address, "0" * 40, patience=0).await_one()


def test_a_lost_worker_loses_no_results(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "ROOT", farm.pipeline.folder)
    monkeypatch.setenv("CAPTCHABENCH_WORKERS", farm.address)
    begun = farm.stick("read-b")

    def kill_its_worker() -> None:
        await_that(begun.exists, 100)
        farm.workers[Path(begun.read_text().split()[1]).name].kill()

    killer = threading.Thread(target=kill_its_worker)
    killer.start()
    state = flow.benchmark(return_state=True)
    killer.join()
    assert state.is_completed(), state.message
    assert gone(begun.read_text().split()[0])
    assert farm.finished() == STAGES
    # Stages that need a device ran on the workers, and the rest here.
    assert sorted(farm.pipeline.ran()) == ["make-a", "make-b", "table"]
    assert (farm.pipeline.folder / "out/table").read_text() == "make-aread-amake-bread-btable"

    # All results are available: here, in a clone of the commit, and without dvc.lock.
    assert "Running stage" not in farm.pipeline.dvc("repro", "--pull")
    commit(farm.pipeline)
    fresh = farm.clone("fresh")
    assert "Running stage" not in fresh.dvc("repro", "--pull")
    assert (fresh.folder / "out/table").exists()
    (farm.pipeline.folder / "dvc.lock").unlink()
    assert "Running stage" not in farm.pipeline.dvc("repro")
    assert farm.finished() == STAGES


def test_what_workers_cannot_get_is_refused(pipeline: Any) -> None:
    with pytest.raises(InputError, match="dvc remote add"):
        check_shared(pipeline.folder)
    pipeline.dvc("remote", "add", "--default", "shared", "anywhere")
    commit(pipeline)
    check_shared(pipeline.folder)
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 2, b: 1}\n")
    with pytest.raises(InputError, match=r"params.yaml: differs from the commit"):
        check_shared(pipeline.folder)


def test_without_a_scheduler_the_run_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.connection._CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"start it there: python -m flows.scheduler tcp://127.0.0.1:9"):
        Workers("tcp://127.0.0.1:9", "0" * 40).await_one()
