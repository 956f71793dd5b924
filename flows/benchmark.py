"""The benchmark as a Prefect flow: run stale stages in parallel, then publish and compare the results.

`python -m flows.run` runs it once, `python -m flows.serve` on a schedule.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Crashed, Failed

from captchabench.errors import InputError
from captchabench.git import head
from captchabench.storage.lockfile import keep_lock_file
from flows import ROOT
from flows.commit import check_branch, check_unchanged, commit_results
from flows.dispatch import Outcome, dispatch, failure_summary
from flows.downloads import check_downloads
from flows.durations import keep_seconds, read_seconds
from flows.fixed import fixed
from flows.graph import Graph, Stage, read_graph
from flows.process import Processes
from flows.publish import publish
from flows.recovery import Busy, repair, run_lock
from flows.resources import Pool, Share, available_cores, available_devices
from flows.runcache import check_shared
from flows.runner import Runner
from flows.tasks import End, block_stage, skip_stage, start_stage

if TYPE_CHECKING:
    from flows.workers import Workers


@flow(name="benchmark", persist_result=False)
def benchmark(only: list[str] | None = None, baseline: str | None = None, margin: float = 0.0) -> State:
    """Run stale stages, publish the results, and fail if a row got significantly worse.

    only: items of a stage's matrix, such as a model, a dataset or both. Only those cells and the stages that they need
    are run, and no tables are made. baseline: the commit to compare with; by default the last one that touched
    metrics/. margin: the share of images that a row may lose without failing the run. The folder, the results branch
    and the workers are not parameters: otherwise whoever may start a run could choose what it executes. They are in
    `flows.fixed`.
    """
    folder, options = ROOT, fixed()
    branch = None if only else options.commit_to
    try:
        if branch:
            check_branch(folder, branch)
        with run_lock(folder, str(runtime.flow_run.id)) as lock:
            _recover(folder, lock.left_behind)
            graph = read_graph(folder)
            if branch:
                check_unchanged(folder, graph.kept)
            if only:
                graph = graph.only(only)
            workers = None
            if options.workers:
                # Imported here because importing Dask is slow.
                from flows.workers import Workers

                check_shared(folder)
                workers = Workers(options.workers, head(folder))
            outcomes = run_graph(graph, folder, lock.handle, workers)
            if failed := failure_summary(outcomes):
                return Failed(message=failed)
            regressions = [] if only else publish(folder, baseline, margin)
            summary = _summary(graph, outcomes)
            if branch and (commit := commit_results(folder, branch, graph.kept, summary)):
                get_run_logger().info(f"results committed to {branch}: {commit}")
    except Busy as error:
        return Cancelled(message=str(error))
    except InputError as error:
        return Failed(message=str(error))
    except OSError as error:
        # For example a full or read-only disk.
        return Failed(message=f"{error.filename or folder}: {error.strerror or error}")
    if regressions:
        return Failed(message=f"significantly worse: {', '.join(regressions)}")
    return Completed(message=summary)


def run_graph(graph: Graph, root: Path, lock: int, workers: "Workers | None" = None) -> dict[str, Outcome]:
    """Run stale stages as tasks of the current flow; return the outcome of each stage that was due.

    lock: the run's lock, which stages inherit. workers: run the stages that need a GPU; None runs them here.
    """
    due = graph.due()
    stale = {stage.name for stage in due}
    for stage in graph.stages:
        if stage.name not in stale:
            skip_stage(stage.name)
    get_run_logger().info(f"{len(graph.stages) - len(due)} stages are up to date, {len(due)} are or may be stale")
    processes = Processes()
    runner = Runner(root, processes, lock, workers)
    futures: dict[str, PrefectFuture[Any]] = {}

    def start(stage: Stage, share: Share, end: End) -> None:
        upstream = [futures[name] for name in stage.upstream if name in futures]
        futures[stage.name] = start_stage(
            stage, share, runner, upstream, lambda get_outcome: end(partial(_keep_lock, get_outcome, root))
        )

    try:
        if workers and any(stage.need.gpus for stage in due):
            workers.await_one()
        pool = Pool(available_cores(), available_devices(), workers.count if workers else None)
        outcomes = dispatch(due, pool, read_seconds(root), start)
        if workers:
            complete = [
                stage.name for stage in graph.stages if stage.name not in stale or not outcomes[stage.name].failure
            ]
            runner.send(complete, get_run_logger().info)
    finally:
        # Also after an interrupt or a cancellation: no stage outlives its run.
        if workers:
            workers.close()
        processes.end_all()
    for name, outcome in outcomes.items():
        if outcome.blocked:
            block_stage(name, outcome.failure)
    ran = {name: outcome.seconds for name, outcome in outcomes.items() if outcome.made and outcome.seconds}
    keep_seconds(root, ran)
    return outcomes


def _recover(root: Path, left_behind: str) -> None:
    """Close the previous run in Prefect if it died, repair what it left half-written, and check the archives."""
    logger = get_run_logger()
    if left_behind and _close_dead_run(left_behind):
        logger.warning(f"closed the run {left_behind}, whose process had died")
    for line in (*check_downloads(root), *repair(root)):
        logger.warning(line)


def _keep_lock(get_outcome: Callable[[], Outcome], root: Path) -> Outcome:
    """Return the outcome of a stage; keep a copy of dvc.lock if the stage changed it."""
    outcome = get_outcome()
    if outcome.made:
        keep_lock_file(root)
    return outcome


def _summary(graph: Graph, outcomes: Mapping[str, Outcome]) -> str:
    count = sum(outcome.made for outcome in outcomes.values())
    return f"{count} stages run, {len(graph.stages) - count} up to date"


def _close_dead_run(run: str) -> bool:
    """Close a run whose process has died; return whether Prefect still listed it as unfinished."""
    try:
        run_id = UUID(run)
    except ValueError:
        return False
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(run_id).state
        except ObjectNotFound:
            return False
        if state is None or state.is_final():
            return False
        client.set_flow_run_state(run_id, Crashed(message="its process died; closed by the next run"), force=True)
    return True
