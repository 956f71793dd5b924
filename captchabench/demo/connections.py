"""Limits on connections and on incomplete requests, before the application sees them.

uvicorn relies on a proxy in front of it to limit the size of headers, the time that a request takes to arrive and the
number of connections. The demo runs without a proxy.
"""

import asyncio
import json
from collections import Counter
from http import HTTPStatus
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from captchabench.demo.clients import network_of
from captchabench.demo.guard import security_headers
from captchabench.demo.limits import ConnectionLimits
from captchabench.demo.monitoring import Monitor

# Received data are parsed in pieces of this many bytes; the limits are checked after each piece.
_PIECE = 16 << 10
# With chunked encoding, one byte of chunk headers is allowed for this many bytes of the body.
_BODY_PER_CHUNK_HEADER = 64
# How much of a refused request is still read, and for how long, so that the client receives the answer.
_LINGER_BYTES = 1 << 20
_LINGER_SECONDS = 2.0


class Gate:
    """Counts connections. At the limit, the one that has waited longest for its client is closed.

    The address with the most connections loses one first. A connection waits for its client until a request is
    complete, between an answer and the next request, and while the client does not read an answer. A connection whose
    request is being answered is not closed.
    """

    def __init__(self, limits: ConnectionLimits, monitor: Monitor) -> None:
        self.limits = limits
        self.monitor = monitor
        self._networks: dict[Connection, str | None] = {}
        self._counts: Counter[str | None] = Counter()
        # In the order in which they began to wait.
        self._waiting: dict[Connection, None] = {}

    def enter(self, connection: "Connection") -> bool:
        """Count a new connection, which waits for its client. Returns False if there is no room for it."""
        network = connection.network
        if network is not None and self._counts[network] >= self.limits.each:
            has_room = self._make_room(network)
        elif len(self._networks) >= self.limits.connections:
            has_room = any(self._make_room(network) for network, _ in self._counts.most_common())
        else:
            has_room = True
        if has_room:
            self._networks[connection] = network
            self._counts[network] += 1
            self._waiting[connection] = None
        return has_room

    def leave(self, connection: "Connection") -> None:
        """Stop counting a connection."""
        if connection in self._networks:
            network = self._networks.pop(connection)
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]
            self._waiting.pop(connection, None)

    def wait(self, connection: "Connection") -> None:
        """Note that the connection now waits for its client."""
        if connection in self._networks:
            self._waiting.setdefault(connection)

    def work(self, connection: "Connection") -> None:
        """Note that the client now waits for an answer."""
        self._waiting.pop(connection, None)

    def _make_room(self, network: str | None) -> bool:
        """Close the connection of `network` that has waited longest. Returns False if none waits."""
        for connection in self._waiting:
            if self._networks[connection] == network:
                self.leave(connection)
                connection.end("too many")
                return True
        return False


class Connection(HttpToolsProtocol):
    """One connection, subject to the limits of its gate."""

    def __init__(
        self,
        gate: Gate,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.network: str | None = None
        self._gate = gate
        self._limits = gate.limits
        self._deadline: asyncio.TimerHandle | None = None
        self._answer_deadline: asyncio.TimerHandle | None = None
        # Of the request that is arriving: bytes of its body, and bytes outside the body.
        self._body = 0
        self._overhead = 0
        self._piece_size = 0
        self._arriving = False
        self._too_many_headers = False
        self._refused = False
        self._discarded = 0
        # `cycle` is the latest request; this is the one that is being answered.
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio declares a wider type
        super().connection_made(transport)
        self.network = network_of(self.client[0]) if self.client else None
        if self._gate.enter(self):
            self._expect(self._limits.head_seconds)
        else:
            self._refused = True
            transport.write(self._refusal(503, "too many connections; try again in a second"))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._mark_disconnected()
        super().connection_lost(exc)
        self._gate.leave(self)
        self._refused = True
        for timer in (self._deadline, self._answer_deadline):
            if timer is not None:
                timer.cancel()

    def end(self, why: str) -> None:
        """Close the connection at once."""
        self._gate.monitor.cut_off.labels(why).inc()
        self._refused = True
        self._mark_disconnected()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.flow.pause_reading()
            return
        if self._deadline is None:
            self._expect(self._limits.head_seconds)
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self._piece_size = len(piece)
            self._overhead += len(piece)
            super().data_received(piece)
            if not self._refused and not self.transport.is_closing():
                self._check_size()
            # The rest is discarded: it could complete the request that was refused.
            if self._refused or self.transport.is_closing():
                return

    def _check_size(self) -> None:
        if self._overhead > self._limits.head + self._body // _BODY_PER_CHUNK_HEADER:
            self._refuse(431, f"more than {self._limits.head >> 10} KiB outside the body; send fewer headers")
        elif self._body > self._limits.body:
            self._refuse(413, f"more than {self._limits.body >> 20} MiB")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = True
        self._body = 0
        self._overhead = self._piece_size

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._limits.headers:
            self._too_many_headers = True
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle
        self._expect(self._limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arriving = False
        self._expect(None)
        if self._answering():
            self._gate.work(self)

    def on_response_complete(self) -> None:
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if following is None:
            self._gate.wait(self)
        else:
            self._answered = following
        if self.transport.get_write_buffer_size() > 0:
            self._watch_answer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._gate.wait(self)
        self._watch_answer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering():
            self._gate.work(self)
        # The client must still read the rest of the answer.
        self._watch_answer()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed. uvicorn calls this."""
        if self._too_many_headers:
            self._refuse(431, f"more than {self._limits.headers} headers; send fewer")
        else:
            self._refuse(400, "this is not a valid HTTP request")

    def _expect(self, seconds: float | None) -> None:
        """Give the client `seconds` to send the rest of a request; None: no limit, nothing is missing."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if self._answering():
            # The next, pipelined request is incomplete. The current one is answered first.
            self._expect(self._limits.head_seconds)
        elif self._arriving:
            self._refuse(408, "the request took too long to arrive")
        else:
            self.transport.close()

    def _answering(self) -> bool:
        """Whether a complete request is being answered."""
        cycle = self._answered
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _watch_answer(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
        self._answer_deadline = self.loop.call_later(self._limits.answer_seconds, self._give_up_answer)

    def _give_up_answer(self) -> None:
        self._answer_deadline = None
        if self.transport.get_write_buffer_size() > 0:
            self.end("answer not taken")

    def _refuse(self, status: int, error: str) -> None:
        """Answer without the application, then close. Reads some more data, so that the client receives the answer."""
        self._expect(None)
        cycle = self._answered
        started = cycle is not None and cycle.response_started and not cycle.response_complete
        # An earlier request is still being answered: the client would take this for its answer.
        if started or (self._arriving and self._answering()):
            self.end(HTTPStatus(status).phrase.lower())
            return
        self._mark_disconnected()
        self._refused = True
        self.flow.resume_reading()
        self.transport.write(self._refusal(status, error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._gate.wait(self)
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _mark_disconnected(self) -> None:
        """Tell the application that the client is gone, so that it does not write to a closed connection."""
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            # Otherwise it would still ask for the body.
            self._answered.waiting_for_100_continue = False
            self._answered.message_event.set()

    def _refusal(self, status: int, error: str) -> bytes:
        self._gate.monitor.requests.labels("other", str(status)).inc()
        body = json.dumps({"error": error}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"1")] if status == 503 else []),
            *security_headers(),
        ]
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join([*lines, b"", body])
