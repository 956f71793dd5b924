"""The stages as Prefect tasks: one per stage, named as in dvc.yaml."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from prefect.tasks import Task

from flows.dispatch import Outcome
from flows.failures import Failure
from flows.graph import Stage
from flows.process import Stopped
from flows.resources import Share
from flows.runner import RETRY_PAUSES, Made, Runner

_STATES = {Made.RUN: "Completed", Made.FETCHED: "Fetched", Made.NOTHING: "Skipped"}

End = Callable[[Callable[[], Outcome]], None]


def _is_transient(_task: Task[..., object], _run: TaskRun, state: State) -> bool:
    """Whether to retry a failed stage."""
    return isinstance(state.data, Failure) and state.data.transient


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_PAUSES),
    retry_delay_seconds=list(RETRY_PAUSES),
    retry_condition_fn=_is_transient,
)
def run_stage(name: str, stage: Stage, share: Share, runner: Runner) -> State:
    """Run one stage through DVC."""
    logger = get_run_logger()
    try:
        made = runner.run(stage, share, logger.info)
    except Failure as failure:
        # Returned, not raised: our traceback would say nothing about the stage's error.
        return Failed(message="\n".join([failure.reason, *failure.lines]), data=failure)
    except Stopped:
        return Cancelled(message="the run was ended")
    return Completed(name=_STATES[made], message="" if made is Made.RUN else made.value)


def start_stage(
    stage: Stage, share: Share, runner: Runner, upstream: Iterable[PrefectFuture[Any]], end: End
) -> PrefectFuture[Any]:
    """Submit a stage; call `end` from its thread with a function that returns the outcome."""
    started = time.monotonic()
    future = run_stage.submit(
        name=stage.name, stage=stage, share=share, runner=runner, wait_for=upstream, return_state=False
    )
    future.add_done_callback(lambda done: end(partial(_outcome, done, time.monotonic() - started)))
    return future


def _outcome(done: PrefectFuture[Any], seconds: float) -> Outcome:
    # Its state is available only after waiting.
    done.wait()
    state = done.state
    if state.is_completed():
        made = next(made for made, name in _STATES.items() if name == state.name)
        return Outcome(made=made is not Made.NOTHING, seconds=seconds if made is Made.RUN else 0.0)
    failure = state.result(raise_on_failure=False)
    if isinstance(failure, Failure):
        return Outcome(failure=failure.reason, lines=failure.lines, seconds=seconds)
    return Outcome(failure=state.message or str(state.type), seconds=seconds)


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def skip_stage(name: str) -> State:
    """Show a stage that is up to date as skipped; no process is started."""
    return Completed(name="Skipped", message=f"{name} is up to date")


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def block_stage(name: str, reason: str) -> State:
    """Show a stage that cannot run as blocked."""
    return Cancelled(name="Blocked", message=reason)
