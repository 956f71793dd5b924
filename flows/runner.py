"""One stage through DVC, here or on a worker: what the flow and `make repro` share. Knows nothing of Prefect."""

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
from flows.resources import Share, own_cores

if TYPE_CHECKING:
    from flows.workers import Workers

# Seconds before each further try of a stage whose failure may pass.
RETRY_PAUSES = (5.0, 10.0, 20.0)
_STAGE = (sys.executable, "-m", "flows.dvc_stage")
# What DVC prints of a stage that it did not run and whose outputs it did not touch either, and of one in its cache.
_UNCHANGED, _CACHED = "didn't change, skipping", "is cached - skipping run"
# What captchabench.networks.device.memory_share reads.
_MEMORY = "CAPTCHABENCH_MEMORY_SHARE"
# Inputs on their way to the remote, or results from there.
_HAND_OVER_SECONDS = 3600.0


class Made(Enum):
    """What had to be done for a stage: nothing, bring its results from where they were kept, or run it."""

    NOTHING = "was not stale after all"
    FETCHED = "came from DVC's cache"
    RUN = "ran"

    @classmethod
    def of(cls, lines: Sequence[str]) -> "Made":
        """What the lines tell that a stage printed."""
        if any(_UNCHANGED in line for line in lines):
            return cls.NOTHING
        return cls.FETCHED if any(_CACHED in line for line in lines) else cls.RUN


@dataclass(frozen=True)
class Runner:
    """What all stages of a run share. lock: the run's lock, which each stage inherits.

    workers: where stages with a share elsewhere run. full: how often a stage has filled its GPU's memory.
    """

    root: Path
    processes: Processes
    lock: int
    workers: "Workers | None" = None
    full: dict[str, int] = field(default_factory=dict)

    def run(self, stage: Stage, share: Share, say: Callable[[str], None]) -> Made:
        """Run the stage once, if it is stale. Raises Failure, or Stopped."""
        try:
            if share.elsewhere:
                return self._run_elsewhere(stage, say)
            lines = self._call(stage.name, ["run", stage.name], share, stage.need.time_limit, say)
            return Made.of(lines)
        except Failure as failure:
            if failure.reason.startswith(OUT_OF_MEMORY):
                self.full[stage.name] = self.full.get(stage.name, 0) + 1
                say(f"the next try takes {self._memory(stage.name)[_MEMORY]} of the usual GPU memory")
            raise

    def send(self, names: Sequence[str], say: Callable[[str], None]) -> None:
        """Copy the results of stages to the remote. Raises InputError if they do not arrive."""
        try:
            self._hand_over("the results", ["send", *names], say)
        except Failure as failure:
            raise InputError(f"not all results are in the DVC remote: {failure.reason}; run again") from None

    def _run_elsewhere(self, stage: Stage, say: Callable[[str], None]) -> Made:
        assert self.workers
        with tempfile.TemporaryDirectory() as folder:
            job, result = Path(folder, "job.json"), Path(folder, "result.json")
            lines = self._hand_over(stage.name, ["offer", stage.name, str(job)], say)
            if not job.exists():
                made = Made.of(lines)
                return Made.FETCHED if made is Made.RUN else made
            limit = stage.need.time_limit
            text = job.read_text(encoding="utf-8")
            done = self.workers.run(stage.name, text, time_limit=limit, environment=self._memory(stage.name), say=say)
            if failure := failure_of(stage.name, done.ended, limit):
                failure.reason += f" (on {done.where})"
                raise failure
            result.write_text(done.result, encoding="utf-8")
            self._hand_over(stage.name, ["take", str(job), str(result)], say)
        say(f"made by {done.where}")
        return Made.RUN

    def _hand_over(self, name: str, words: Sequence[str], say: Callable[[str], None]) -> tuple[str, ...]:
        """To the remote, or from there: it waits for the network more than it computes."""
        return self._call(name, words, Share(own_cores(), ()), _HAND_OVER_SECONDS, say)

    def _call(
        self, name: str, words: Sequence[str], share: Share, time_limit: float, say: Callable[[str], None]
    ) -> tuple[str, ...]:
        """Have DVC do something on this machine; the last lines that it printed. Raises Failure, or Stopped."""
        ended = self.processes.run(
            [*_STAGE, *words],
            cwd=self.root,
            environment={**os.environ, **share.environment(), **self._memory(name)},
            cores=share.cores,
            time_limit=time_limit,
            handed_down=[self.lock],
            say=say,
        )
        if failure := failure_of(name, ended, time_limit):
            raise failure
        return ended.lines

    def _memory(self, name: str) -> dict[str, str]:
        """After each time that a stage has filled its GPU's memory, half of what it took before."""
        full = self.full.get(name, 0)
        return {_MEMORY: str(0.5**full)} if full else {}
