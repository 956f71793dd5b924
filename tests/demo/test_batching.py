"""Dynamic batching: answers go to the right caller, batches keep their limits, and clients take turns."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.demo.batching import Batcher
from captchabench.demo.limits import Batching

Answer = Callable[[list[int]], Awaitable[Sequence[int]]]


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """The result of a scenario, which may take up to ten seconds."""
    return asyncio.run(asyncio.wait_for(scenario(), 10))


async def while_running(batcher: Batcher[int, int], *work: Awaitable[Any]) -> list[Any]:
    """The results of `work`, or its exceptions, with the batcher running."""
    running = asyncio.create_task(batcher.run())
    try:
        return await asyncio.gather(*work, return_exceptions=True)
    finally:
        running.cancel()


def ask(batcher: Batcher[int, int], items: list[int], client: str = "", cost: int = 1) -> Awaitable[list[int]]:
    return batcher.submit(items, [cost] * len(items), client)


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=30), st.integers(1, 8), st.integers(0, 3))
def test_every_answer_goes_to_who_asked_and_no_batch_is_too_large(
    asked: list[list[int]], size: int, pauses: int
) -> None:
    batches: list[list[int]] = []

    async def answer(items: list[int]) -> list[int]:
        batches.append(items)
        for _ in range(pauses):
            await asyncio.sleep(0)
        return [-item for item in items]

    async def scenario() -> list[Any]:
        batcher = Batcher(answer, Batching(size, seconds=0.0))
        return await while_running(batcher, *(ask(batcher, items) for items in asked))

    assert run(scenario) == [[-item for item in items] for items in asked]
    # Items of one client come oldest first, each exactly once.
    assert [item for batch in batches for item in batch] == [item for items in asked for item in items]
    assert all(1 <= len(batch) <= size for batch in batches)


def test_what_comes_within_the_wait_is_answered_together() -> None:
    batches: list[int] = []

    async def answer(items: list[int]) -> list[int]:
        batches.append(len(items))
        return items

    async def later(batcher: Batcher[int, int]) -> None:
        await asyncio.sleep(0.01)
        await ask(batcher, [2])

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(8, seconds=0.5))
        await while_running(batcher, ask(batcher, [1]), later(batcher))

    run(scenario)
    assert batches == [2]


def test_a_full_batch_waits_no_longer() -> None:
    async def answer(items: list[int]) -> list[int]:
        return items

    async def scenario() -> list[Any]:
        batcher = Batcher(answer, Batching(2, seconds=60.0))
        return await while_running(batcher, ask(batcher, [1]), ask(batcher, [2]))

    assert run(scenario) == [[1], [2]]


def test_a_failure_is_told_to_its_own_batch_alone() -> None:
    async def answer(items: list[int]) -> list[int]:
        if 0 in items:
            raise ValueError("nought")
        return items

    async def scenario() -> list[Any]:
        batcher = Batcher(answer, Batching(1, seconds=0.0))
        return await while_running(batcher, ask(batcher, [1]), ask(batcher, [0]), ask(batcher, [2]))

    before, failed, after = run(scenario)
    assert isinstance(failed, ValueError)
    assert [before, after] == [[1], [2]]


def test_who_has_gone_is_not_read_for() -> None:
    read: list[int] = []

    async def answer(items: list[int]) -> list[int]:
        read.extend(items)
        return items

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(8, seconds=0.0))
        gone = asyncio.ensure_future(ask(batcher, [1, 2]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await while_running(batcher, ask(batcher, [3]))

    run(scenario)
    assert read == [3]


def test_who_asks_little_does_not_wait_for_who_asks_much() -> None:
    batches: list[list[int]] = []

    async def answer(items: list[int]) -> list[int]:
        batches.append(items)
        await asyncio.sleep(0)
        return items

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(8, cost=40, seconds=0.0))
        large = ask(batcher, [100] * 20, "large", cost=30)
        small = [ask(batcher, [turn] * 3, f"small {turn}") for turn in range(10)]
        await while_running(batcher, large, *small)

    run(scenario)
    # Thirty small items cost as much as one large item, so they come before the other client's second large one.
    order = [item for batch in batches for item in batch]
    assert len(order) == 50
    assert order.index(100) >= 29
    assert all(batch.count(100) <= 1 for batch in batches)


def test_each_of_two_who_ask_much_has_every_other_turn() -> None:
    order: list[int] = []

    async def answer(items: list[int]) -> list[int]:
        order.extend(items)
        return items

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(1, seconds=0.0))
        await while_running(batcher, ask(batcher, [1] * 10, "one"), ask(batcher, [2] * 10, "two"))

    run(scenario)
    assert order == [1, 2] * 10


def test_what_costs_more_than_a_batch_may_is_answered_alone() -> None:
    batches: list[int] = []

    async def answer(items: list[int]) -> list[int]:
        batches.append(len(items))
        return items

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(8, cost=10, seconds=0.0))
        await while_running(batcher, ask(batcher, [1, 2], cost=50), ask(batcher, [3] * 5, "other", cost=5))

    run(scenario)
    assert sorted(batches) == [1, 1, 1, 2, 2]


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=20))
def test_those_who_have_gone_are_forgotten(clients: list[tuple[int, bool]]) -> None:
    async def answer(items: list[int]) -> list[int]:
        return items

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(3, seconds=0.0))
        asked = []
        for number, (items, goes) in enumerate(clients):
            asked.append((asyncio.ensure_future(ask(batcher, [number] * items, str(number % 3))), goes))
        await asyncio.sleep(0)
        gone = [task for task, goes in asked if goes]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert len(batcher) == sum(items for items, goes in clients if not goes)
        await while_running(batcher, *(task for task, goes in asked if not goes))
        assert len(batcher) == 0
        assert not batcher._last_finish
        assert all(task.cancelled() == goes for task, goes in asked)

    run(scenario)
