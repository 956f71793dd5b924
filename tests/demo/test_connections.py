"""Connection limits: what is too large, too slow, too many or never read by the client is cut off."""

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from captchabench.demo.connections import Gate
from captchabench.demo.limits import ConnectionLimits
from captchabench.demo.serve import server_of
from captchabench.demo.service import Service

SVC = "written-hog_svc-0"
# No timeout is reached within a test.
PATIENT: dict[str, Any] = {"head_seconds": 600, "body_seconds": 600, "answer_seconds": 600}
GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = f"POST /predict?model={SVC} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n".encode()


@dataclass(frozen=True)
class Demo:
    """A demo that listens, in a thread of the test process."""

    service: Service
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=300)

    def counter(self, what: str) -> float:
        match = re.search(rf"^captchabench_{re.escape(what)} (\S+)$", self.service.monitor.text().decode(), re.M)
        return float(match[1]) if match else 0.0


@pytest.fixture
def listening(make_service: Callable[..., Service]) -> Callable[..., Any]:
    """A function that makes a demo listen, within given limits."""

    @contextmanager
    def listen(service: Service | None = None, **limits: Any) -> Iterator[Demo]:
        service = service or make_service()
        server = server_of(service, ConnectionLimits(**{**PATIENT, **limits}))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield Demo(service, listener.getsockname()[1])
            finally:
                server.should_exit = True
                thread.join()

    return listen


def read_to_end(line: socket.socket) -> bytes:
    """The bytes received until the other side closes."""
    received = b""
    with suppress(ConnectionError):
        while data := line.recv(1 << 16):
            received += data
    return received


def parsed_answer(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), json.loads(body)


LONG = b"x" * (200 << 10)
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + LONG + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + LONG,
        # The piece that passes the limit completes the request.
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + LONG + b": x\r\n\r\n",
        b"GET /" + LONG + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"\r\n" * (100 << 10),
        # Chunk extensions, chunk headers and trailers of a chunked body.
        CHUNKED + b"1;" + LONG + b"\r\nx\r\n0\r\n\r\n",
        CHUNKED + b"1\r\nx\r\n" * (40 << 10),
        CHUNKED + b"1\r\nx\r\n0\r\nx: " + LONG + b"\r\n\r\n",
    ],
    ids=["value", "half", "whole", "name", "url", "many", "nothing", "chunk", "chunks", "trailer"],
)
def test_a_large_head_is_refused(listening: Callable[..., Any], request_: bytes) -> None:
    with listening() as demo, demo.connect() as line:
        line.sendall(request_)
        status, headers, body = parsed_answer(read_to_end(line))
        assert status == 431
        assert "fewer" in body["error"]
        assert headers["connection"] == "close"
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert demo.counter('requests_total{route="other",status="431"}') == 1


def test_nothing_is_written_after_a_refusal(
    listening: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("ERROR")
    # The application answers `Expect` when it asks for the body.
    head = POST + b"expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
    with listening() as demo:
        for name in ("uvicorn", "uvicorn.error"):
            monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        for pieces in ([head + b"zz\r\n"], [head, b"zz\r\n"]):
            with demo.connect() as line:
                for piece in pieces:
                    line.sendall(piece)
                assert b" 400 " in read_to_end(line)
        # What completes the request comes with the piece that passes the limit.
        for size in range(80_000, 100_000, 2000):
            with demo.connect() as line:
                line.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * size + b"\r\n\r\n")
                assert b" 431 " in read_to_end(line)
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


def test_who_goes_on_sending_headers_is_cut_off(listening: Callable[..., Any]) -> None:
    with listening() as demo, demo.connect() as line:
        sent = 0
        with suppress(ConnectionError):
            line.sendall(b"GET / HTTP/1.1\r\nx: ")
            while sent < 64 << 20:
                line.sendall(LONG)
                sent += len(LONG)
        assert sent < 64 << 20
        assert parsed_answer(read_to_end(line))[0] == 431


def test_a_head_that_is_not_large_is_read_and_so_is_the_next(listening: Callable[..., Any], trained: Any) -> None:
    image = trained.images[0]
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, image[index : index + 1]) for index in range(len(image)))
    cookie = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ncookie: " + LONG[: 40 << 10] + b"\r\n\r\n"
    with listening() as demo, demo.connect() as line:
        # All in one piece.
        line.sendall(
            cookie
            + CHUNKED
            + chunks
            + b"0\r\n\r\n"
            + GET
            + cookie.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        )
        assert re.findall(rb"HTTP/1.1 (\d+)", read_to_end(line)) == [b"200"] * 4


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n", 408),
        (POST + b"content-length: 100\r\n\r\nhalf", 408),
        (CHUNKED + b"5\r\nhalf", 408),
    ],
    ids=["nothing", "head", "body", "chunk"],
)
def test_half_a_request_is_given_up(listening: Callable[..., Any], sent: bytes, status: int | None) -> None:
    with listening(head_seconds=0.2, body_seconds=0.2) as demo, demo.connect() as line:
        line.sendall(sent)
        answer = read_to_end(line)
        assert (parsed_answer(answer)[0] if answer else None) == status
        assert demo.counter('requests_total{route="other",status="408"}') == (status == 408)


@pytest.mark.parametrize("sent", [b"", GET], ids=["first", "next"])
def test_a_byte_now_and_then_gains_no_time(listening: Callable[..., Any], sent: bytes) -> None:
    with listening(head_seconds=0.3) as demo, demo.connect() as line:
        line.sendall(sent)
        if sent:
            line.recv(1 << 16)
        ended = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                line.sendall(b"GET / HTTP/1.1\r\nx: ")
                while not ended.wait(0.05):
                    line.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        assert parsed_answer(read_to_end(line))[0] == 408
        ended.set()
        thread.join()


def test_between_requests_there_is_more_time(listening: Callable[..., Any]) -> None:
    with listening(head_seconds=0.1) as demo, demo.connect() as line:
        for _ in range(2):
            line.sendall(GET)
            assert line.recv(1 << 16).startswith(b"HTTP/1.1 200")
            assert not threading.Event().wait(0.5)


def test_a_body_that_nobody_reads_ends(listening: Callable[..., Any]) -> None:
    with listening(body=1 << 20) as demo, demo.connect() as line:
        sent = 0
        with suppress(ConnectionError):
            line.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            while sent < 64 << 20:
                line.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent += 1 << 16
        assert sent < 64 << 20


def test_what_is_no_request_is_told_so(listening: Callable[..., Any]) -> None:
    with listening() as demo, demo.connect() as line:
        line.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        status, headers, body = parsed_answer(read_to_end(line))
        assert status == 400
        assert "not a valid HTTP request" in body["error"]
        assert headers["x-content-type-options"] == "nosniff"
        assert demo.counter('requests_total{route="other",status="400"}') == 1


def test_half_requests_make_room_for_whole_ones(listening: Callable[..., Any]) -> None:
    with listening(connections=20) as demo, ExitStack() as opened:
        lines = [opened.enter_context(demo.connect()) for _ in range(60)]
        for index, line in enumerate(lines):
            with suppress(ConnectionError):
                line.sendall(GET[:-2] if index % 2 else POST + b"content-length: 100\r\n\r\nhalf")
        last = opened.enter_context(demo.connect())
        last.sendall(GET)
        assert last.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert read_to_end(lines[0]) == b""
        assert demo.counter('connections_cut_off_total{why="too many"}') == 41


def test_answers_that_are_not_taken_are_given_up(
    listening: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    ask = b"GET /static/swagger/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with listening(answer_seconds=0.5) as demo, demo.connect() as line:
        # More answers than the socket buffers hold.
        line.sendall(ask * 30)
        while not demo.counter('connections_cut_off_total{why="answer not taken"}'):
            assert not threading.Event().wait(0.05)
        with demo.connect() as other:
            other.sendall(GET)
            assert other.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert len(read_to_end(line)) < 30 << 20
    assert "Traceback" not in capfd.readouterr().err


def test_who_waits_when_the_demo_is_stopped_is_told_so(
    make_service: Callable[..., Service], listening: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    service = make_service()
    asked = threading.Event()

    async def answer(*_: object) -> list[Any]:
        asked.set()
        await asyncio.sleep(3600)
        return []

    vars(service.queue)["answer"] = answer
    with ExitStack() as opened:
        with listening(service) as demo:
            line = opened.enter_context(demo.connect())
            line.sendall(POST + b"content-length: 4\r\n\r\nfour")
            assert asked.wait(300)
        status, _, body = parsed_answer(read_to_end(line))
    assert status == 503
    assert "stopping" in body["error"]
    assert "Traceback" not in capfd.readouterr().err


class FakeConnection:
    """A fake connection from an address, for the gate to count."""

    def __init__(self, network: str | None) -> None:
        self.network = network
        self.ended = ""

    def end(self, why: str) -> None:
        self.ended = why


@pytest.fixture
def gate(make_service: Callable[..., Service]) -> Gate:
    return Gate(ConnectionLimits(connections=10, each=4), make_service().monitor)


def entered(gate: Gate, *networks: str | None) -> list[Any]:
    lines: list[Any] = [FakeConnection(network) for network in networks]
    assert all(gate.enter(line) for line in lines)
    return lines


def test_an_address_has_a_part_of_the_connections(gate: Gate) -> None:
    first, *others = entered(gate, *["a"] * 4)
    (one,) = entered(gate, "b")
    entered(gate, "a")
    # One of the same address is closed: the one that has waited longest.
    assert first.ended == "too many"
    assert not any(line.ended for line in [*others, one])
    for line in others:
        gate.work(line)
    entered(gate, "a")
    assert not any(line.ended for line in others)


def test_the_address_that_has_most_makes_room(gate: Gate) -> None:
    few = entered(gate, "b", "c", "c")
    many = entered(gate, *["a"] * 4)
    local = entered(gate, None, None, None)
    entered(gate, "d")
    assert [line.ended for line in many] == ["too many", "", "", ""]
    for line in many:
        gate.work(line)
    entered(gate, "e")
    assert [line.ended for line in local] == ["too many", "", ""]
    assert not any(line.ended for line in [*few, *many[1:]])


def test_what_works_is_not_ended(gate: Gate) -> None:
    lines = entered(gate, *[None] * 10)
    for line in lines:
        gate.work(line)
    newcomer: Any = FakeConnection(None)
    assert not gate.enter(newcomer)
    gate.wait(lines[3])
    assert gate.enter(newcomer)
    assert [line.ended for line in lines].index("too many") == 3
    # A connection that has left is no longer counted.
    gate.leave(lines[5])
    gate.leave(lines[5])
    assert gate.enter(lines[5])
    entered(gate, "f")
    assert newcomer.ended == "too many"
