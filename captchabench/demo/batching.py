"""Dynamic batching: what several requests ask at about the same time is answered together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from captchabench.demo.limits import Batching

# One batch that is being answered, and one on its way there: so that nobody waits for the way.
_AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


class Busy(Exception):
    """More is waiting than may wait. Nothing was taken on; ask again later."""


@dataclass
class _Waiting(Generic[Item, Result]):
    item: Item
    since: float
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Gathers items and hands them on in batches, oldest first.

    While batches are being answered the next fills up, so under load they grow by themselves. `answer` maps a list of
    items to as many results, in the same order; it is called for a second batch while the first is still with it.
    """

    def __init__(
        self, answer: Callable[[list[Item]], Awaitable[Sequence[Result]]], batching: Batching, most_waiting: int
    ) -> None:
        self._answer = answer
        self._batching = batching
        self._most_waiting = most_waiting
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._some = asyncio.Event()
        self._full = asyncio.Event()

    def __len__(self) -> int:
        """Items that wait for their batch."""
        return len(self._queue)

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """The results of `items`, in their order. Raises Busy where they would be too many, and whatever `answer`
        raised for the batch of one of them."""
        if len(self._queue) + len(items) > self._most_waiting:
            raise Busy
        loop = asyncio.get_running_loop()
        waiting = [_Waiting[Item, Result](item, loop.time(), loop.create_future()) for item in items]
        self._queue.extend(waiting)
        self._signal()
        try:
            return await asyncio.gather(*(one.answer for one in waiting))
        finally:
            # Who has gone, or had one of its items fail, needs no answer to the rest.
            for one in waiting:
                one.answer.cancel()

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
        """The oldest items: as many as fit, once there are so many or the first has waited long enough."""
        await self._some.wait()
        loop = asyncio.get_running_loop()
        left = self._queue[0].since + self._batching.seconds - loop.time()
        if left > 0 and not self._full.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), left)
        taken = [self._queue.popleft() for _ in range(min(self._batching.size, len(self._queue)))]
        self._signal()
        return [one for one in taken if not one.answer.done()]

    def _signal(self) -> None:
        for event, set_ in ((self._some, bool(self._queue)), (self._full, len(self._queue) >= self._batching.size)):
            event.set() if set_ else event.clear()
