"""The stages as Prefect tasks: one a stage, named as in dvc.yaml."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed, State
from prefect.tasks import Task, exponential_backoff

from captchabench.errors import InputError
from flows.dispatch import Outcome
from flows.failures import OUT_OF_MEMORY, Failure, failure_of
from flows.graph import Stage
from flows.process import Processes, Stopped
from flows.resources import Share, own_cores

if TYPE_CHECKING:
    from flows.workers import Workers

_RETRIES = 3
_BACKOFF_SECONDS = 5
_STAGE = (sys.executable, "-m", "flows.dvc_stage")
# What DVC prints of a stage that it did not run and whose outputs it did not touch either.
_UNCHANGED = "didn't change, skipping"
# What captchabench.training.device.memory_share reads.
_MEMORY = "CAPTCHABENCH_MEMORY_SHARE"
# Inputs on their way to the remote, or results from there.
_HAND_OVER_SECONDS = 3600.0

End = Callable[[Callable[[], Outcome]], None]


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

    def run(self, stage: Stage, share: Share, say: Callable[[str], None]) -> bool:
        """Run the stage once; whether it was stale. Raises Failure, or Stopped."""
        try:
            if share.elsewhere:
                return self._run_elsewhere(stage, say)
            lines = self._call(stage.name, ["run", stage.name], share, stage.need.time_limit, say)
            return not any(_UNCHANGED in line for line in lines)
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

    def _run_elsewhere(self, stage: Stage, say: Callable[[str], None]) -> bool:
        assert self.workers
        with tempfile.TemporaryDirectory() as folder:
            job, result = Path(folder, "job.json"), Path(folder, "result.json")
            lines = self._hand_over(stage.name, ["offer", stage.name, str(job)], say)
            if not job.exists():
                return not any(_UNCHANGED in line for line in lines)
            limit = stage.need.time_limit
            text = job.read_text(encoding="utf-8")
            done = self.workers.run(stage.name, text, time_limit=limit, environment=self._memory(stage.name), say=say)
            if failure := failure_of(stage.name, done.ended, limit):
                failure.reason += f" (on {done.where})"
                raise failure
            result.write_text(done.result, encoding="utf-8")
            self._hand_over(stage.name, ["take", str(job), str(result)], say)
        say(f"made by {done.where}")
        return True

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


def _passes(_task: Task[..., object], _run: TaskRun, state: State) -> bool:
    """Whether a failed stage is worth another try."""
    return isinstance(state.data, Failure) and state.data.passing


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=_RETRIES,
    retry_delay_seconds=exponential_backoff(_BACKOFF_SECONDS),
    retry_condition_fn=_passes,
)
def run_stage(name: str, stage: Stage, share: Share, runner: Runner) -> State:
    """Run one stage through DVC."""
    logger = get_run_logger()
    try:
        made = runner.run(stage, share, logger.info)
    except Failure as failure:
        # Returned, not raised: a traceback of ours would say nothing of the stage's.
        return Failed(message="\n".join([failure.reason, *failure.lines]), data=failure)
    except Stopped:
        return Cancelled(message="the run was ended")
    return Completed(name="Completed" if made else "Skipped", message="" if made else "was not stale after all")


def start_stage(
    stage: Stage, share: Share, runner: Runner, upstream: Iterable[PrefectFuture[Any]], end: End
) -> PrefectFuture[Any]:
    """Submit a stage; call `end` from its thread with what became of it."""
    started = time.monotonic()
    future = run_stage.submit(
        name=stage.name, stage=stage, share=share, runner=runner, wait_for=upstream, return_state=False
    )
    future.add_done_callback(lambda done: end(partial(_outcome, done, time.monotonic() - started)))
    return future


def _outcome(done: PrefectFuture[Any], seconds: float) -> Outcome:
    # Its state is at hand only then.
    done.wait()
    state = done.state
    if state.is_completed():
        return Outcome(made=state.name == "Completed", seconds=seconds)
    failure = state.result(raise_on_failure=False)
    if isinstance(failure, Failure):
        return Outcome(failure=failure.reason, lines=failure.lines, seconds=seconds)
    return Outcome(failure=state.message or str(state.type), seconds=seconds)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def skip_stage(name: str) -> State:
    """A stage that is up to date, shown as such; no process is started."""
    return Completed(name="Skipped", message=f"{name} is up to date")


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def block_stage(name: str, why: str) -> State:
    """A stage that cannot run."""
    return Cancelled(name="Blocked", message=why)
