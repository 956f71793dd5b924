"""The stages as Prefect tasks: one a stage, named as in dvc.yaml."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed, State
from prefect.tasks import Task, exponential_backoff

from flows.dispatch import Outcome
from flows.failures import Failure, failure_of
from flows.graph import Stage
from flows.process import Processes, Stopped
from flows.resources import Share

_RETRIES = 3
_BACKOFF_SECONDS = 5
_DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item")
# What DVC prints of a stage that it did not run and whose outputs it did not touch either.
_UNCHANGED = "didn't change, skipping"

End = Callable[[Callable[[], Outcome]], None]


@dataclass(frozen=True)
class Runner:
    """What all stages of a run share. lock: the run's lock, which each stage inherits."""

    root: Path
    processes: Processes
    lock: int

    def run(self, stage: Stage, share: Share, say: Callable[[str], None]) -> bool:
        """Run the stage once; whether it was stale. Raises Failure, or Stopped."""
        ended = self.processes.run(
            [*_DVC, stage.name],
            cwd=self.root,
            environment={**os.environ, **share.environment()},
            cores=share.cores,
            time_limit=stage.need.time_limit,
            handed_down=[self.lock],
            say=say,
        )
        if failure := failure_of(stage.name, ended, stage.need.time_limit):
            raise failure
        return not any(_UNCHANGED in line for line in ended.lines)


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
