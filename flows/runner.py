"""Runs one stage through DVC, here or on a worker. Used by the flow and by `make repro`; does not import Prefect."""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from captchabench.errors import InputError
from flows.failures import OUT_OF_MEMORY, Failure, failure_of
from flows.graph import Stage
from flows.process import Processes
from flows.resources import Share, available_cores

if TYPE_CHECKING:
    from flows.workers import Workers

# Seconds before each retry of a stage whose failure is transient.
RETRY_PAUSES = (5.0, 10.0, 20.0)
_STAGE = (sys.executable, "-m", "flows.dvc_stage")
# What DVC prints for a stage that is up to date, and for one that it restored from its cache.
_UNCHANGED, _CACHED = "didn't change, skipping", "is cached - skipping run"
# Read by captchabench.networks.device.memory_share.
_MEMORY = "CAPTCHABENCH_MEMORY_SHARE"
# Time limit for copying inputs to the remote or results from it.
_TRANSFER_SECONDS = 3600.0


class Made(Enum):
    """How the outputs of a stage were made: they were up to date, restored from a cache, or the stage ran."""

    NOTHING = "was not stale after all"
    FETCHED = "came from DVC's cache"
    RUN = "ran"

    @classmethod
    def of(cls, lines: Sequence[str]) -> "Made":
        """Derived from the lines that DVC printed for a stage."""
        if any(_UNCHANGED in line for line in lines):
            return cls.NOTHING
        return cls.FETCHED if any(_CACHED in line for line in lines) else cls.RUN


@dataclass(frozen=True)
class Runner:
    """Runs the stages of one run. lock: the run's lock, which each stage inherits.

    workers: run stages whose share is elsewhere. out_of_memory: how often each stage ran out of GPU memory.
    """

    root: Path
    processes: Processes
    lock: int
    workers: "Workers | None" = None
    out_of_memory: dict[str, int] = field(default_factory=dict)

    def run(self, stage: Stage, share: Share, say: Callable[[str], None]) -> Made:
        """Run the stage once, if it is stale. Raises Failure or Stopped."""
        try:
            if share.elsewhere:
                return self._run_elsewhere(stage, say)
            lines = self._call(stage.name, ["run", stage.name], share, stage.need.time_limit, say)
            return Made.of(lines)
        except Failure as failure:
            if failure.reason.startswith(OUT_OF_MEMORY):
                self.out_of_memory[stage.name] = self.out_of_memory.get(stage.name, 0) + 1
                say(f"the next try uses {self._memory(stage.name)[_MEMORY]} of the usual GPU memory")
            raise

    def send(self, names: Sequence[str], say: Callable[[str], None]) -> None:
        """Copy the results of stages to the remote. Raises InputError if any do not arrive."""
        try:
            self._transfer("the results", ["send", *names], say)
        except Failure as failure:
            raise InputError(f"not all results are in the DVC remote: {failure.reason}; run again") from None

    def _run_elsewhere(self, stage: Stage, say: Callable[[str], None]) -> Made:
        assert self.workers
        with tempfile.TemporaryDirectory() as folder:
            job, result = Path(folder, "job.json"), Path(folder, "result.json")
            lines = self._transfer(stage.name, ["offer", stage.name, str(job)], say)
            if not job.exists():
                made = Made.of(lines)
                return Made.FETCHED if made is Made.RUN else made
            limit = stage.need.time_limit
            text = job.read_text(encoding="utf-8")
            done = self.workers.run(stage.name, text, time_limit=limit, environment=self._memory(stage.name), say=say)
            if failure := failure_of(stage.name, done.ended, limit):
                failure.reason += f" (on {done.worker})"
                raise failure
            result.write_text(done.result, encoding="utf-8")
            self._transfer(stage.name, ["take", str(job), str(result)], say)
        say(f"made by {done.worker}")
        return Made.RUN

    def _transfer(self, name: str, arguments: Sequence[str], say: Callable[[str], None]) -> tuple[str, ...]:
        """Copy to or from the remote. It takes no share of the pool, since it mostly waits for the network."""
        return self._call(name, arguments, Share(available_cores(), ()), _TRANSFER_SECONDS, say)

    def _call(
        self, name: str, arguments: Sequence[str], share: Share, time_limit: float, say: Callable[[str], None]
    ) -> tuple[str, ...]:
        """Run flows.dvc_stage on this machine; return the last lines of its output. Raises Failure or Stopped."""
        ended = self.processes.run(
            [*_STAGE, *arguments],
            cwd=self.root,
            environment={**os.environ, **share.environment(), **self._memory(name)},
            cores=share.cores,
            time_limit=time_limit,
            pass_fds=[self.lock],
            say=say,
        )
        if failure := failure_of(name, ended, time_limit):
            raise failure
        return ended.lines

    def _memory(self, name: str) -> dict[str, str]:
        """The variable that limits GPU memory: half as much after each time that the stage ran out of it."""
        times = self.out_of_memory.get(name, 0)
        return {_MEMORY: str(0.5**times)} if times else {}
