"""Who is let in: so many bytes of uploads, and so much work, at a time. Who takes most gives way to the others."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

_Kind = Literal["held", "work"]


class Busy(Exception):
    """More is waiting than may wait. Nothing was taken on; ask again later."""


class Ticket:
    """One request that was let in. held: bytes that it brought. work: what its images cost."""

    def __init__(self, admission: "Admission", client: str) -> None:
        self._admission = admission
        self._task = asyncio.current_task()
        self.client = client
        self.held = 0
        self.work = 0
        self.revoked = False

    def pay(self, size: int) -> None:
        """Take on `size` more bytes. Raises Busy where all hold too many, and no other client holds more."""
        self._admission.charge(self, "held", size)

    def ask(self, work: int) -> None:
        """Take on `work`, as cost.py counts it. Raises Busy where too much waits, and no other client asks more."""
        self._admission.charge(self, "work", work)

    def revoke(self) -> None:
        """End the request: where it was let in, Busy is raised."""
        self.revoked = True
        if self._task is not None:
            self._task.cancel()

    def settle(self) -> bool:
        """Once the request has ended in a cancellation: whether that was by `revoke`, and by nothing else."""
        return self.revoked and self._task is not None and self._task.uncancel() == 0


class Admission:
    """Counts what the requests hold that are being received or answered.

    Where there is too much of it, the client that has most loses its largest request: whoever sends little is let in
    however much others send.
    """

    def __init__(self, most_bytes: int, most_work: int) -> None:
        self._most: dict[_Kind, int] = {"held": most_bytes, "work": most_work}
        self._total: dict[_Kind, int] = {"held": 0, "work": 0}
        self._tickets: set[Ticket] = set()

    @property
    def requests(self) -> int:
        """Requests that are in."""
        return len(self._tickets)

    @property
    def held(self) -> int:
        """Bytes of their uploads."""
        return self._total["held"]

    @contextmanager
    def enter(self, client: str) -> Iterator[Ticket]:
        """Let one request in. Raises Busy where it had to give way to others."""
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
        """Let `ticket` have `amount` more. Raises Busy."""
        for other in self._to_give_way(ticket, kind, amount):
            self._release(other)
            other.revoke()
        self._total[kind] += amount
        setattr(ticket, kind, getattr(ticket, kind) + amount)

    def _to_give_way(self, ticket: Ticket, kind: _Kind, amount: int) -> list[Ticket]:
        """Those that make room for `amount` more: each the largest of the client that has most then.

        Raises Busy where that client would come to have less than this one.
        """
        over = self._total[kind] + amount - self._most[kind]
        found: list[Ticket] = []
        if over <= 0:
            return found
        totals: Counter[str] = Counter()
        for one in self._tickets:
            totals[one.client] += getattr(one, kind)
        wanted = totals.pop(ticket.client, 0) + amount
        left = sorted((one for one in self._tickets if one is not ticket), key=lambda one: int(getattr(one, kind)))
        while over > 0:
            client, most = max(totals.items(), key=lambda item: item[1], default=("", 0))
            if most <= wanted:
                raise Busy
            place = max(place for place, one in enumerate(left) if one.client == client)
            found.append(left.pop(place))
            size = getattr(found[-1], kind)
            totals[client] -= size
            over -= size
        return found

    def _release(self, ticket: Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._total["held"] -= ticket.held
            self._total["work"] -= ticket.work
