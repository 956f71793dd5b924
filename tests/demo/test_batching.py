"""Batches form by themselves, and each answer goes to who asked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.demo.batching import Batcher, Busy
from captchabench.demo.limits import Batching

Answer = Callable[[list[int]], Awaitable[Sequence[int]]]


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """The result of a scenario, which may take ten seconds."""
    return asyncio.run(asyncio.wait_for(scenario(), 10))  # type: ignore[arg-type]


async def beside(batcher: Batcher[int, int], *work: Awaitable[Any]) -> list[Any]:
    """The results of `work`, exceptions among them, while the batcher runs."""
    running = asyncio.create_task(batcher.run())
    try:
        return await asyncio.gather(*work, return_exceptions=True)
    finally:
        running.cancel()


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
        batcher = Batcher(answer, Batching(size, 0.0), 1000)
        return await beside(batcher, *(batcher.submit(items) for items in asked))

    assert run(scenario) == [[-item for item in items] for items in asked]
    # Oldest first, all of them once.
    assert [item for batch in batches for item in batch] == [item for items in asked for item in items]
    assert all(1 <= len(batch) <= size for batch in batches)


def test_what_comes_within_the_wait_is_answered_together() -> None:
    batches: list[int] = []

    async def answer(items: list[int]) -> list[int]:
        batches.append(len(items))
        return items

    async def later(batcher: Batcher[int, int]) -> None:
        await asyncio.sleep(0.01)
        await batcher.submit([2])

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(8, 0.5), 100)
        await beside(batcher, batcher.submit([1]), later(batcher))

    run(scenario)
    assert batches == [2]


def test_a_full_batch_waits_no_longer() -> None:
    async def answer(items: list[int]) -> list[int]:
        return items

    async def scenario() -> list[Any]:
        batcher = Batcher(answer, Batching(2, 60.0), 100)
        return await beside(batcher, batcher.submit([1]), batcher.submit([2]))

    assert run(scenario) == [[1], [2]]


def test_too_many_are_refused_whole_and_the_others_are_answered() -> None:
    async def answer(items: list[int]) -> list[int]:
        return items

    async def scenario() -> list[Any]:
        batcher = Batcher(answer, Batching(8, 0.0), 3)
        return await beside(batcher, batcher.submit([1, 2]), batcher.submit([3, 4]), batcher.submit([5]))

    first, refused, last = run(scenario)
    assert isinstance(refused, Busy)
    assert [first, last] == [[1, 2], [5]]


def test_a_failure_is_told_to_its_own_batch_alone() -> None:
    async def answer(items: list[int]) -> list[int]:
        if 0 in items:
            raise ValueError("nought")
        return items

    async def scenario() -> list[Any]:
        batcher = Batcher(answer, Batching(1, 0.0), 100)
        return await beside(batcher, batcher.submit([1]), batcher.submit([0]), batcher.submit([2]))

    before, failed, after = run(scenario)
    assert isinstance(failed, ValueError)
    assert [before, after] == [[1], [2]]


def test_who_has_gone_is_not_read_for() -> None:
    read: list[int] = []

    async def answer(items: list[int]) -> list[int]:
        read.extend(items)
        return items

    async def scenario() -> None:
        batcher = Batcher(answer, Batching(8, 0.0), 100)
        gone = asyncio.create_task(batcher.submit([1, 2]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await beside(batcher, batcher.submit([3]))

    run(scenario)
    assert read == [3]
