"""Dynamic batching: items of concurrent requests are answered in common batches, with fair queueing of clients."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from captchabench.demo.limits import Batching

# Batches in progress: one is being answered, and the next is already handed over, so that no time is lost between them.
_BATCHES_IN_PROGRESS = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(order=True)
class _Waiting(Generic[Item, Result]):
    finish: int
    arrival: int
    item: Item = field(compare=False)
    cost: int = field(compare=False)
    client: str = field(compare=False)
    answer: asyncio.Future[Result] = field(compare=False)
    queued: bool = field(default=True, compare=False)


class Batcher(Generic[Item, Result]):
    """Collects items and answers them in batches; clients take turns according to the cost of their items.

    Each item gets a finish time: the current virtual time plus the costs of its client's queued items and its own
    (self-clocked fair queueing; Golestani, INFOCOM 1994). Items are answered in the order of their finish times, so a
    client with few items does not wait for one with many. While batches are being answered the next one fills up, so
    batches grow under load. `answer` maps a list of items to as many results, in the same order. It is called with the
    next batch while it still answers the previous one.
    """

    def __init__(self, answer: Callable[[list[Item]], Awaitable[Sequence[Result]]], batching: Batching) -> None:
        self._answer = answer
        self._batching = batching
        # A heap. Cancelled items stay in it until they are popped or compacted.
        self._queue: list[_Waiting[Item, Result]] = []
        self._cancelled = 0
        self._arrivals = count()
        # The virtual time; and by client the last finish time given and the number of queued items.
        self._virtual_time = 0
        self._last_finish: dict[str, int] = {}
        self._items: Counter[str] = Counter()
        self._since = 0.0
        self._not_empty = asyncio.Event()
        self._full = asyncio.Event()

    def __len__(self) -> int:
        """The number of items that wait for a batch."""
        return len(self._queue) - self._cancelled

    async def submit(self, items: Sequence[Item], costs: Sequence[int], client: str) -> list[Result]:
        """The results of `items`, in order. Raises the exception that `answer` raised for a batch with one of them."""
        loop = asyncio.get_running_loop()
        if not self._queue:
            self._since = loop.time()
        waiting = []
        finish = max(self._virtual_time, self._last_finish.get(client, 0))
        for item, cost in zip(items, costs, strict=True):
            finish += cost
            waiting.append(
                _Waiting[Item, Result](finish, next(self._arrivals), item, cost, client, loop.create_future())
            )
            heapq.heappush(self._queue, waiting[-1])
        self._last_finish[client] = finish
        self._items[client] += len(waiting)
        self._signal()
        try:
            return await asyncio.gather(*(one.answer for one in waiting))
        finally:
            # If the client is gone, or one of its items failed, the other results are not needed.
            for one in waiting:
                one.answer.cancel()
                self._cancelled += one.queued
            if 2 * self._cancelled > len(self._queue):
                self._compact()

    async def run(self) -> None:
        """Answer batches until cancelled."""
        slots = asyncio.Semaphore(_BATCHES_IN_PROGRESS)
        async with asyncio.TaskGroup() as batches:
            while True:
                await slots.acquire()
                task = batches.create_task(self._answer_batch(await self._next()))
                task.add_done_callback(lambda _: slots.release())

    async def _answer_batch(self, batch: list[_Waiting[Item, Result]]) -> None:
        if not batch:
            return
        try:
            results = await self._answer([one.item for one in batch])
            for one, result in zip(batch, results, strict=True):
                if not one.answer.done():
                    one.answer.set_result(result)
        except Exception as error:
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)

    async def _next(self) -> list[_Waiting[Item, Result]]:
        """The next batch: as many items as fit, once it is full or the oldest has waited long enough."""
        await self._not_empty.wait()
        loop = asyncio.get_running_loop()
        remaining = self._since + self._batching.seconds - loop.time()
        if remaining > 0 and not self._full.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), remaining)
        taken: list[_Waiting[Item, Result]] = []
        room = self._batching.cost
        while self._queue and len(taken) < self._batching.size:
            first = self._queue[0]
            if not first.answer.done():
                if taken and first.cost > room:
                    break
                room -= first.cost
                self._virtual_time = first.finish
                taken.append(first)
            else:
                self._cancelled -= 1
            heapq.heappop(self._queue).queued = False
            self._items[first.client] -= 1
            if not self._items[first.client]:
                del self._items[first.client], self._last_finish[first.client]
        self._signal()
        return taken

    def _compact(self) -> None:
        """Remove the cancelled items from the queue."""
        for one in self._queue:
            one.queued = not one.answer.done()
        self._queue = [one for one in self._queue if one.queued]
        heapq.heapify(self._queue)
        self._cancelled = 0
        self._items = Counter(one.client for one in self._queue)
        self._last_finish = {}
        for one in self._queue:
            self._last_finish[one.client] = max(one.finish, self._last_finish.get(one.client, 0))
        self._signal()

    def _signal(self) -> None:
        for event, is_set in (
            (self._not_empty, bool(self._queue)),
            (self._full, len(self._queue) >= self._batching.size),
        ):
            event.set() if is_set else event.clear()
