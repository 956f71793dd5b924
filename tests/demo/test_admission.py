"""Admission control: the largest client gives way, and small requests are admitted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from captchabench.demo.admission import Admission, Busy, Ticket
from captchabench.demo.clients import client_of


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario(), 10))


async def holding(admission: Admission, client: str, held: int = 0, work: int = 0) -> str:
    """A request that reserves the given amounts and runs until it is cancelled; returns how it ended."""
    try:
        with admission.enter(client) as ticket:
            ticket.add_bytes(held)
            ticket.add_work(work)
            await asyncio.sleep(3600)
    except Busy:
        return "busy"
    return "done"


def outcomes(admission: Admission, *requests: dict[str, Any]) -> list[str]:
    """How requests end that are started one after the other; "in" for those still admitted at the end."""

    async def scenario() -> list[str]:
        tasks = []
        for request in requests:
            tasks.append(asyncio.create_task(holding(admission, **request)))
            for _ in range(3):
                await asyncio.sleep(0)
        results = [task.result() if task.done() else "in" for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.done() for task in tasks)
        return results

    results: list[str] = run(scenario)
    assert (admission.requests, admission.held) == (0, 0)
    return results


@pytest.mark.parametrize("kind", ["held", "work"])
def test_the_largest_gives_way_to_the_small(kind: str) -> None:
    requests = [{"client": name, kind: size} for name, size in (("a", 60), ("b", 40), ("c", 10), ("d", 10))]
    assert outcomes(Admission(100, 100), *requests) == ["busy", "in", "in", "in"]


def test_who_would_have_most_is_refused() -> None:
    requests = [{"client": name, "work": size} for name, size in (("a", 60), ("b", 40), ("c", 70), ("b", 30))]
    assert outcomes(Admission(100, 100), *requests) == ["in", "in", "busy", "busy"]


def test_all_that_a_client_has_counts() -> None:
    requests = [{"client": "a", "held": 10}] * 10 + [{"client": "b", "held": 60}, {"client": "b", "held": 50}]
    results = outcomes(Admission(100, 100), *requests)
    # With 60, b would have more than a keeps, so b is refused. With 50, a gives up half of its requests.
    assert results[-2:] == ["busy", "in"]
    assert results.count("in") == 6


def test_what_ends_a_request_from_outside_is_not_called_busy() -> None:
    async def scenario() -> None:
        admission = Admission(100, 100)
        task = asyncio.create_task(holding(admission, "a", 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_a_request_that_gave_way_can_be_answered() -> None:
    async def scenario() -> str:
        admission = Admission(100, 100)
        task = asyncio.create_task(holding(admission, "a", 60))
        await asyncio.sleep(0)
        with admission.enter("b") as ticket:
            ticket.add_bytes(50)
        assert isinstance(ticket, Ticket)
        result: str = await task
        assert task.cancelling() == 0
        return result

    assert run(scenario) == "busy"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("10.0.0.1", 4000), ("10.0.0.1", 4001), True),
        (("10.0.0.1", 4000), ("10.0.0.2", 4000), False),
        (("2001:db8::1", 1), ("2001:db8::ffff:1", 2), True),
        (("2001:db8:0:1::1", 1), ("2001:db8:0:2::1", 1), False),
        # On loopback all clients have the same address, so each connection counts as a client.
        (("127.0.0.1", 4000), ("127.0.0.1", 4001), False),
        (("::1", 4000), ("::1", 4000), True),
    ],
)
def test_who_is_one_client(one: tuple[str, int], other: tuple[str, int], same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same
