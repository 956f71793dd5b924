"""Admission control: limits the bytes of uploads and the work in progress. The client with most gives way first."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

_Kind = Literal["held", "work"]


class Busy(Exception):
    """The limit on waiting work or memory is reached. The request was not processed; the client may retry."""


class Ticket:
    """One admitted request. held: bytes of its upload in memory. work: the cost of its images, see cost.py."""

    def __init__(self, admission: "Admission", client: str) -> None:
        self._admission = admission
        self._task = asyncio.current_task()
        self.client = client
        self.held = 0
        self.work = 0
        self.revoked = False

    def add_bytes(self, size: int) -> None:
        """Reserve `size` more bytes. Raises Busy if the limit is reached and no other client holds more."""
        self._admission.charge(self, "held", size)

    def add_work(self, work: int) -> None:
        """Reserve `work`, as cost.py counts it. Raises Busy if the limit is reached and no other client has more."""
        self._admission.charge(self, "work", work)

    def revoke(self) -> None:
        """Cancel the request: Busy is raised in `Admission.enter`."""
        self.revoked = True
        if self._task is not None:
            self._task.cancel()

    def settle(self) -> bool:
        """After a cancellation: whether `revoke` alone was the cause. Clears the cancellation by `revoke`."""
        return self.revoked and self._task is not None and self._task.uncancel() == 0


class Admission:
    """Counts the bytes and the work of the requests that are being received or answered.

    At the limit, the client with the largest total loses its largest request. So a client that sends little is admitted
    however much others send.
    """

    def __init__(self, max_bytes: int, max_work: int) -> None:
        self._limits: dict[_Kind, int] = {"held": max_bytes, "work": max_work}
        self._total: dict[_Kind, int] = {"held": 0, "work": 0}
        self._tickets: set[Ticket] = set()

    @property
    def requests(self) -> int:
        """The number of admitted requests."""
        return len(self._tickets)

    @property
    def held(self) -> int:
        """The bytes of their uploads."""
        return self._total["held"]

    @contextmanager
    def enter(self, client: str) -> Iterator[Ticket]:
        """Admit one request. Raises Busy if it is revoked for the sake of others."""
        ticket = Ticket(self, client)
        self._tickets.add(ticket)
        try:
            yield ticket
        except asyncio.CancelledError:
            if ticket.settle():
                raise Busy from None
            raise
        finally:
            self._release(ticket)

    def charge(self, ticket: Ticket, kind: _Kind, amount: int) -> None:
        """Add `amount` to `ticket`. Raises Busy."""
        for other in self._to_revoke(ticket, kind, amount):
            self._release(other)
            other.revoke()
        self._total[kind] += amount
        setattr(ticket, kind, getattr(ticket, kind) + amount)

    def _to_revoke(self, ticket: Ticket, kind: _Kind, amount: int) -> list[Ticket]:
        """The requests to revoke for `amount` more: repeatedly the largest of the client with the largest total.

        Raises Busy if that client has no more than this one would have.
        """
        excess = self._total[kind] + amount - self._limits[kind]
        revoked: list[Ticket] = []
        if excess <= 0:
            return revoked
        totals: Counter[str] = Counter()
        for admitted in self._tickets:
            totals[admitted.client] += getattr(admitted, kind)
        new_total = totals.pop(ticket.client, 0) + amount
        others = [admitted for admitted in self._tickets if admitted is not ticket]
        by_size = sorted(others, key=lambda other: int(getattr(other, kind)))
        while excess > 0:
            client, largest_total = max(totals.items(), key=lambda item: item[1], default=("", 0))
            if largest_total <= new_total:
                raise Busy
            largest = max(index for index, other in enumerate(by_size) if other.client == client)
            revoked.append(by_size.pop(largest))
            size = getattr(revoked[-1], kind)
            totals[client] -= size
            excess -= size
        return revoked

    def _release(self, ticket: Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._total["held"] -= ticket.held
            self._total["work"] -= ticket.work
