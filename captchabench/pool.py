"""A parallel map over worker processes, with results in order."""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from captchabench.errors import InputError
from captchabench.orphans import end_with_parent

T = TypeVar("T")
R = TypeVar("R")

# A worker takes about 150 MB. More workers would only cost memory, since the single writer is the bottleneck.
_MAX_WORKERS = 16

# Starting the workers takes longer than this, so shorter work is done without them.
PATIENCE_SECONDS = 1.0

_work: Callable[[Any], Any] | None = None


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(work: Callable[[T], R], items: Sequence[T], workers: int | None = None) -> Iterator[R]:
    """Yield `work(item)` for each item, in order, computed by `workers` processes (default: one per core).

    This process works alone for the first second, and to the end with one worker. After that `work` is sent to each
    worker once and the items one by one. At most a few results are pending, so memory does not grow with the number
    of items. Raises InputError if a worker is killed.
    """
    workers = min(workers or cores(), len(items), _MAX_WORKERS)
    start = time.monotonic()
    done = 0
    while done < len(items) and (workers <= 1 or time.monotonic() - start < PATIENCE_SECONDS):
        yield work(items[done])
        done += 1
    if done == len(items):
        return
    # A new server process forks the workers: forking this process could copy a lock that another thread holds.
    # The server imports the module of `work` once for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    with ProcessPoolExecutor(workers, context, _init_worker, (work,)) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items[done:]:
                running.append(pool.submit(_call, item))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, perhaps because memory ran out; run it again, "
                "and on fewer cores (`taskset -c 0-1`) if it happens again"
            ) from None
        finally:
            for future in running:
                future.cancel()


def _init_worker(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    # Otherwise a worker would wait for work forever after its parent was killed.
    end_with_parent()


def _call(item: Any) -> Any:
    assert _work is not None
    return _work(item)
