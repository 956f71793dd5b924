"""Work spread over the machine's cores, with results in order."""

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

# A worker holds about 150 MB: more of them would cost memory, while one writer cannot feed on more.
_MOST_WORKERS = 16

# Starting the processes takes longer than this, so what is done by then is not worth it.
PATIENCE_SECONDS = 1.0

_work: Callable[[Any], Any] | None = None


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(work: Callable[[T], R], items: Sequence[T], workers: int | None = None) -> Iterator[R]:
    """`work(item)` for each item, in order, on `workers` processes (all cores unless told).

    The first second's work, all of it with one worker, is done in this process. After that `work` is sent to
    each worker once, the items one by one, and only a few results wait at a time, so that memory does not
    grow with the number of items. Raises InputError where one of the processes is killed.
    """
    workers = min(workers or cores(), len(items), _MOST_WORKERS)
    start = time.monotonic()
    done = 0
    while done < len(items) and (workers <= 1 or time.monotonic() - start < PATIENCE_SECONDS):
        yield work(items[done])
        done += 1
    if done == len(items):
        return
    # A fresh server forks the workers: forking this process could copy a lock that some thread holds.
    # It imports what the work needs once, for all of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    with ProcessPoolExecutor(workers, context, _adopt, (work,)) as pool:
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
                "a process that shared the work was killed, for want of memory perhaps; run it again, on fewer cores "
                "(`taskset -c 0-1`) should it happen again"
            ) from None
        finally:
            for future in running:
                future.cancel()


def _adopt(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    # A worker waits for work for ever, whether there is anybody to give it or not.
    end_with_parent()


def _call(item: Any) -> Any:
    assert _work is not None
    return _work(item)
