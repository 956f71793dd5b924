"""What is taken on: who takes most gives way, and who sends little is let in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from captchabench.demo.admission import Admission, Busy, Ticket
from captchabench.demo.clients import client_of


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario(), 10))


async def holding(admission: Admission, client: str, held: int = 0, work: int = 0) -> str:
    """A request that takes what it says and goes on until it is cancelled; what becomes of it."""
    try:
        with admission.enter(client) as ticket:
            ticket.pay(held)
            ticket.ask(work)
            await asyncio.sleep(3600)
    except Busy:
        return "busy"
    return "done"


def becomes(admission: Admission, *requests: dict[str, Any]) -> list[str]:
    """What becomes of requests, one after the other: "in" of those that are still there at the end."""

    async def scenario() -> list[str]:
        tasks = []
        for request in requests:
            tasks.append(asyncio.create_task(holding(admission, **request)))
            for _ in range(3):
                await asyncio.sleep(0)
        found = [task.result() if task.done() else "in" for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.done() for task in tasks)
        return found

    found: list[str] = run(scenario)
    assert (admission.requests, admission.held) == (0, 0)
    return found


@pytest.mark.parametrize("kind", ["held", "work"])
def test_the_largest_gives_way_to_the_small(kind: str) -> None:
    requests = [{"client": name, kind: size} for name, size in (("a", 60), ("b", 40), ("c", 10), ("d", 10))]
    assert becomes(Admission(100, 100), *requests) == ["busy", "in", "in", "in"]


def test_who_would_have_most_is_refused() -> None:
    requests = [{"client": name, "work": size} for name, size in (("a", 60), ("b", 40), ("c", 70), ("b", 30))]
    assert becomes(Admission(100, 100), *requests) == ["in", "in", "busy", "busy"]


def test_all_that_a_client_has_counts() -> None:
    requests = [{"client": "a", "held": 10}] * 10 + [{"client": "b", "held": 60}, {"client": "b", "held": 50}]
    found = becomes(Admission(100, 100), *requests)
    # With 60 the other would have more than is left to the first; for 50 it gives way to half.
    assert found[-2:] == ["busy", "in"]
    assert found.count("in") == 6


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
            ticket.pay(50)
        assert isinstance(ticket, Ticket)
        found = await task
        assert task.cancelling() == 0
        return found

    assert run(scenario) == "busy"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("10.0.0.1", 4000), ("10.0.0.1", 4001), True),
        (("10.0.0.1", 4000), ("10.0.0.2", 4000), False),
        (("2001:db8::1", 1), ("2001:db8::ffff:1", 2), True),
        (("2001:db8:0:1::1", 1), ("2001:db8:0:2::1", 1), False),
        # On this machine everybody has the same address.
        (("127.0.0.1", 4000), ("127.0.0.1", 4001), False),
        (("::1", 4000), ("::1", 4000), True),
    ],
)
def test_who_is_one_client(one: tuple[str, int], other: tuple[str, int], same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same
