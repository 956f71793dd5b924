"""Dynamic batching: what several requests ask at about the same time is answered together, in fair turns."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from captchabench.demo.limits import Batching

# One batch that is being answered, and one on its way there: so that nobody waits for the way.
_AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(order=True)
class _Waiting(Generic[Item, Result]):
    turn: int
    arrival: int
    item: Item = field(compare=False)
    cost: int = field(compare=False)
    client: str = field(compare=False)
    answer: asyncio.Future[Result] = field(compare=False)
    queued: bool = field(default=True, compare=False)


class Batcher(Generic[Item, Result]):
    """Gathers items and hands them on in batches; clients take turns by what their items cost.

    Each item has a turn: what its client has asked before it, and its own cost, counted from the turn that is being
    answered (self-clocked fair queueing; Golestani, INFOCOM 1994). So who asks much waits for it, and who asks little
    comes before that. While batches are being answered the next fills up, so under load they grow by themselves.
    `answer` maps a list of items to as many results, in the same order; it is called for a second batch while the first
    is still with it.
    """

    def __init__(self, answer: Callable[[list[Item]], Awaitable[Sequence[Result]]], batching: Batching) -> None:
        self._answer = answer
        self._batching = batching
        # A heap, in which those that nobody waits for any more stay for a while.
        self._queue: list[_Waiting[Item, Result]] = []
        self._gone = 0
        self._arrivals = count()
        # The turn that is being answered; and by client the last turn given, and the items that wait.
        self._turn = 0
        self._last: dict[str, int] = {}
        self._items: Counter[str] = Counter()
        self._since = 0.0
        self._some = asyncio.Event()
        self._full = asyncio.Event()

    def __len__(self) -> int:
        """Items that wait for their batch."""
        return len(self._queue) - self._gone

    async def submit(self, items: Sequence[Item], costs: Sequence[int], client: str) -> list[Result]:
        """The results of `items`, in their order. Raises whatever `answer` raised for the batch of one of them."""
        loop = asyncio.get_running_loop()
        if not self._queue:
            self._since = loop.time()
        waiting = []
        turn = max(self._turn, self._last.get(client, 0))
        for item, cost in zip(items, costs, strict=True):
            turn += cost
            waiting.append(_Waiting[Item, Result](turn, next(self._arrivals), item, cost, client, loop.create_future()))
            heapq.heappush(self._queue, waiting[-1])
        self._last[client] = turn
        self._items[client] += len(waiting)
        self._signal()
        try:
            return await asyncio.gather(*(one.answer for one in waiting))
        finally:
            # Who has gone, or had one of its items fail, needs no answer to the rest.
            for one in waiting:
                one.answer.cancel()
                self._gone += one.queued
            if 2 * self._gone > len(self._queue):
                self._forget()

    async def run(self) -> None:
        """Hand on batches until cancelled."""
        places = asyncio.Semaphore(_AHEAD)
        async with asyncio.TaskGroup() as handed_on:
            while True:
                await places.acquire()
                task = handed_on.create_task(self._hand_on(await self._next()))
                task.add_done_callback(lambda _: places.release())

    async def _hand_on(self, batch: list[_Waiting[Item, Result]]) -> None:
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
        """Those whose turn it is: as many as fit, once there are so many or the first has waited long enough."""
        await self._some.wait()
        loop = asyncio.get_running_loop()
        left = self._since + self._batching.seconds - loop.time()
        if left > 0 and not self._full.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), left)
        taken: list[_Waiting[Item, Result]] = []
        room = self._batching.cost
        while self._queue and len(taken) < self._batching.size:
            first = self._queue[0]
            if not first.answer.done():
                if taken and first.cost > room:
                    break
                room -= first.cost
                self._turn = first.turn
                taken.append(first)
            else:
                self._gone -= 1
            heapq.heappop(self._queue).queued = False
            self._items[first.client] -= 1
            if not self._items[first.client]:
                del self._items[first.client], self._last[first.client]
        self._signal()
        return taken

    def _forget(self) -> None:
        """Drop those that nobody waits for."""
        for one in self._queue:
            one.queued = not one.answer.done()
        self._queue = [one for one in self._queue if one.queued]
        heapq.heapify(self._queue)
        self._gone = 0
        self._items = Counter(one.client for one in self._queue)
        self._last = {}
        for one in self._queue:
            self._last[one.client] = max(one.turn, self._last.get(one.client, 0))
        self._signal()

    def _signal(self) -> None:
        for event, set_ in ((self._some, bool(self._queue)), (self._full, len(self._queue) >= self._batching.size)):
            event.set() if set_ else event.clear()
