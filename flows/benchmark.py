"""The benchmark as a Prefect flow: what is stale, in parallel, then what became of the results.

`python -m flows.run` runs it once, `python -m flows.serve` on a schedule.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from captchabench.errors import InputError
from captchabench.storage.lockfile import keep_lock_file
from flows import ROOT
from flows.commit import check_branch, commit_results, head
from flows.dispatch import Outcome, account, dispatch
from flows.durations import keep_seconds, read_seconds
from flows.fixed import fixed
from flows.graph import Graph, Stage, read_graph
from flows.history import close_dead_run
from flows.process import Processes
from flows.publish import publish
from flows.recovery import Busy, mend, run_lock
from flows.resources import Pool, Share, own_cores, own_devices
from flows.runcache import check_shared
from flows.runner import Runner
from flows.tasks import End, block_stage, skip_stage, start_stage

if TYPE_CHECKING:
    from flows.workers import Workers


@flow(name="benchmark", persist_result=False)
def benchmark(only: list[str] | None = None, baseline: str | None = None, margin: float = 0.0) -> State:
    """Run what is stale, publish the results, and fail where something got significantly worse.

    only: words of a stage's matrix, such as a model, a dataset or both: those cells and what they need, and no
    tables. baseline: the commit to compare with; the last one that touched metrics/ unless given. margin: the share
    of images that a row may lose all the same. Which folder this works in, which branch gets the results and who
    helps are no parameters: whoever may start a run would choose what it executes. They are in `flows.fixed`.
    """
    folder, own = ROOT, fixed()
    try:
        if own.commit_to:
            check_branch(folder, own.commit_to)
        with run_lock(folder, str(runtime.flow_run.id)) as lock:
            _tidy_up(folder, lock.left_behind)
            graph = read_graph(folder)
            if only:
                graph = graph.only(only)
            others = None
            if own.workers:
                # Dask takes its time to import.
                from flows.workers import Workers

                check_shared(folder)
                others = Workers(own.workers, head(folder))
            outcomes = run_graph(graph, folder, lock.handle, others)
            if failed := account(outcomes):
                return Failed(message=failed)
            regressions = [] if only else publish(folder, baseline, margin)
            made = _summary(graph, outcomes)
            if own.commit_to and not only and (commit := commit_results(folder, own.commit_to, graph.kept, made)):
                get_run_logger().info(f"results committed to {own.commit_to}: {commit}")
    except Busy as error:
        return Cancelled(message=str(error))
    except InputError as error:
        return Failed(message=str(error))
    except OSError as error:
        # A full disk, or one that is read only.
        return Failed(message=f"{error.filename or folder}: {error.strerror or error}")
    if regressions:
        return Failed(message=f"significantly worse: {', '.join(regressions)}")
    return Completed(message=made)


def run_graph(graph: Graph, root: Path, lock: int, workers: "Workers | None" = None) -> dict[str, Outcome]:
    """Run what is stale as tasks of the current flow; return what became of each stage that was due.

    lock: the run's lock, which stages inherit. workers: where those that ask for a device run, if not here.
    """
    due = graph.due()
    stale = {stage.name for stage in due}
    for stage in graph.stages:
        if stage.name not in stale:
            skip_stage(stage.name)
    get_run_logger().info(f"{len(graph.stages) - len(due)} stages are up to date, {len(due)} are stale or may be")
    processes = Processes()
    runner = Runner(root, processes, lock, workers)
    futures: dict[str, PrefectFuture[Any]] = {}

    def start(stage: Stage, share: Share, end: End) -> None:
        upstream = [futures[name] for name in stage.upstream if name in futures]
        futures[stage.name] = start_stage(
            stage, share, runner, upstream, lambda judge: end(partial(_kept, judge, root))
        )

    try:
        if workers and any(stage.need.gpus for stage in due):
            workers.await_one()
        pool = Pool(own_cores(), own_devices(), workers.count if workers else None)
        outcomes = dispatch(due, pool, read_seconds(root), start)
        if workers:
            made = [stage.name for stage in graph.stages if stage.name not in stale or not outcomes[stage.name].failure]
            runner.send(made, get_run_logger().info)
    finally:
        # On the way out of an interrupt or a cancellation, too: no stage outlives its run.
        if workers:
            workers.close()
        processes.end_all()
    for name, outcome in outcomes.items():
        if outcome.blocked:
            block_stage(name, outcome.failure)
    ran = {name: outcome.seconds for name, outcome in outcomes.items() if outcome.made and outcome.seconds}
    keep_seconds(root, ran)
    return outcomes


def _tidy_up(root: Path, left_behind: str) -> None:
    """Close the run that died, if one did, and mend what it left half-written."""
    logger = get_run_logger()
    if left_behind and close_dead_run(left_behind):
        logger.warning(f"closed the run {left_behind}, which had died")
    for line in mend(root):
        logger.warning(line)


def _kept(judge: Callable[[], Outcome], root: Path) -> Outcome:
    """The outcome of a stage; what DVC wrote of it is set aside."""
    outcome = judge()
    if outcome.made:
        keep_lock_file(root)
    return outcome


def _summary(graph: Graph, outcomes: Mapping[str, Outcome]) -> str:
    made = sum(outcome.made for outcome in outcomes.values())
    return f"{made} stages run, {len(graph.stages) - made} up to date"
