"""Who is let in: so many requests, and so many bytes of uploads, at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from captchabench.demo.batching import Busy


class Ticket:
    """One request that was let in; it pays for the bytes that it brings."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.held = 0

    def pay(self, size: int) -> None:
        """Take on `size` more bytes. Raises Busy where all requests together hold too many."""
        if self._admission.held + size > self._admission.most_bytes:
            raise Busy
        self._admission.held += size
        self.held += size


class Admission:
    """Counts the requests that are being received or answered, and the bytes they hold."""

    def __init__(self, most_requests: int, most_bytes: int) -> None:
        self.most_requests = most_requests
        self.most_bytes = most_bytes
        self.requests = 0
        self.held = 0

    @contextmanager
    def enter(self) -> Iterator[Ticket]:
        """Let one request in. Raises Busy where there are too many."""
        if self.requests >= self.most_requests:
            raise Busy
        self.requests += 1
        ticket = Ticket(self)
        try:
            yield ticket
        finally:
            self.requests -= 1
            self.held -= ticket.held
