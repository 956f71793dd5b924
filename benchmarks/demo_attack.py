"""How long honest clients of the demo wait while a tenth of all clients is hostile. Every honest answer is checked.

Starts `captchabench demo` on loopback and measures honest clients twice on the same server: alone, then together with
hostile clients. Each honest client sends held-out images one after the other on a persistent connection. The hostile
clients run in a separate process. Each repeats one of these attacks, assigned in turn:

  heavy    forms of 64 images of 34 kB that decode to 2000x2000 pixels of 16-bit RGBA, each on a new connection
  halves   110 connections with an incomplete request each, which grows by a byte per second
  heads    headers of 64 MiB, as fast as the server accepts them
  deaf     requests the largest file of the page on one connection, again and again, and reads no response

All clients run on the machine of the server. On few cores the hostile clients take processor time from the others as
well, so the waiting time measured with them is an upper bound.

Needs the models, images and predictions of `make repro`.
"""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.table import Table

from benchmarks.demo_load import Client, Question, Tally, question_list, server
from benchmarks.machine import machine
from benchmarks.results import default_path, finish, run, say
from captchabench.networks.device import choose_device

_HALVES = 110
_HEADERS = 64 << 20
# Seconds that a hostile client waits for the server.
_PATIENCE = 30.0
_LARGEST = "/static/swagger/swagger-ui-bundle.js"


def main(
    model: Annotated[str, typer.Option(help="The cell of the model, such as fournierp-crnn-0.")] = "fournierp-crnn-0",
    seconds: Annotated[float, typer.Option(min=1, help="Duration of each of the two measurements.")] = 60.0,
    honest: Annotated[int, typer.Option(min=1, help="Number of honest clients.")] = 90,
    hostile: Annotated[int, typer.Option(min=1, help="Number of hostile clients.")] = 10,
    only: Annotated[str | None, typer.Option(help="One attack only: heavy, halves, heads or deaf.")] = None,
    data: Annotated[Path, typer.Option(help="The data folder of `make repro`.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two seconds, only to check that it runs.")] = False,
) -> None:
    """Measure the 99th percentile of the latency of honest clients, alone and together with hostile ones.

    For example: python -m benchmarks.demo_attack --seconds 10 --only heavy
    """
    if quick:
        seconds, honest = 2.0, 9
    questions = question_list(data, model)
    kinds = [only] if only else list(_KINDS)
    with server(data) as port:
        asyncio.run(_ask(port, questions, 2.0, honest))
        say(f"alone: {honest} clients, {seconds:g} s")
        alone = asyncio.run(_ask(port, questions, seconds, honest))
        say(f"with {hostile} hostile clients: {honest} clients, {seconds:g} s")
        with _hostile(port, model, hostile, kinds) as came:
            attacked = asyncio.run(_ask(port, questions, seconds, honest))
            counts = dict(came)
    rows = [_row("alone", alone), _row("attacked", attacked)]
    ratio = rows[1]["p99_ms"] / rows[0]["p99_ms"]
    result: dict[str, Any] = {
        "benchmark": "demo_attack",
        "machine": machine(choose_device()),
        "model": model,
        "honest": honest,
        "hostile": hostile,
        "kinds": kinds,
        "seconds": seconds,
        "rows": rows,
        "p99_ratio": ratio,
        "came_of_it": counts,
        "quick": quick,
    }
    notes = [
        f"{result['machine']['processor']}, {result['machine']['cores']} cores, shared with all clients",
        f"{model}: {honest} honest clients, {hostile} hostile ones ({', '.join(kinds)})",
        "hostile: " + ", ".join(f"{what} {number:,}" for what, number in sorted(counts.items())),
        f"p99 with hostile clients: {ratio:.2f} times the p99 without them",
    ]
    finish(out or default_path("demo_attack"), result, notes, _table(rows, quick))


async def _ask(port: int, questions: list[Question], seconds: float, connections: int) -> Tally:
    """Ask questions in turn, one at a time on each connection, until the time is up."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    turns = _until(loop.time() + seconds)
    clients = [
        (await loop.create_connection(lambda: Client(questions, turns, tally), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    tally.begun = time.perf_counter()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.done for client in clients))
    tally.ended = time.perf_counter()
    return tally


def _until(end: float) -> Iterator[int]:
    """0, 1, 2 ... until the loop's clock says `end`."""
    turn = 0
    while asyncio.get_running_loop().time() < end:
        yield turn
        turn += 1


@contextmanager
def _hostile(port: int, model: str, number: int, kinds: list[str]) -> Iterator[Any]:
    """Runs hostile clients in a separate process. Yields the counts of what they did, which grow."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        came = manager.dict()
        process = context.Process(target=_be_hostile, args=(port, model, number, kinds, came), daemon=True)
        process.start()
        # The process first encodes its images.
        while not came:
            time.sleep(0.05)
        try:
            yield came
        finally:
            process.kill()
            process.join()


def _be_hostile(port: int, model: str, number: int, kinds: list[str], came: Any) -> None:
    counts: Counter[str] = Counter()
    form = _form(model)

    async def begin() -> None:
        clients = [_KINDS[kinds[turn % len(kinds)]] for turn in range(number)]
        working = [asyncio.create_task(client(port, form, counts)) for client in clients]
        while True:
            counts["begun"] += 0
            came.update(counts)
            await asyncio.sleep(0.5)
            for task in working:
                assert not task.done(), task.exception()

    asyncio.run(begin())


def _form(model: str) -> bytes:
    """A request with 64 images that are small to send and large to decode."""
    picture = cv2.imencode(".png", np.zeros((2000, 2000, 4), np.uint16))[1].tobytes()
    part = b'--b\r\ncontent-disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + picture + b"\r\n"
    body = part * 64 + b"--b--\r\n"
    head = f"POST /predict?model={model} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"content-type: multipart/form-data; boundary=b\r\n\r\n" + body


async def _heavy(port: int, form: bytes, counts: Counter[str]) -> None:
    while True:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                async with asyncio.timeout(_PATIENCE):
                    writer.write(form)
                    answer = await reader.readuntil(b"\r\n")
                    counts[f"heavy forms answered {answer[9:12].decode()}"] += 1
            finally:
                writer.transport.abort()
        # A rejected client tries again.
        await asyncio.sleep(0.1)


async def _halves(port: int, form: bytes, counts: Counter[str]) -> None:
    async def half(turn: int) -> None:
        begin = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " if turn % 2 else form[:1000]
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                counts["half requests"] += 1
                try:
                    writer.write(begin)
                    while not writer.is_closing():
                        await asyncio.sleep(1)
                        writer.write(b"x")
                        await writer.drain()
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(half(turn) for turn in range(_HALVES)))


async def _heads(port: int, _encoded: bytes, counts: Counter[str]) -> None:
    piece = b"x" * (256 << 10)
    while True:
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                answer = asyncio.create_task(reader.readline())
                async with asyncio.timeout(_PATIENCE):
                    writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ")
                    with suppress(OSError):
                        for _ in range(_HEADERS // len(piece)):
                            writer.write(piece)
                            await writer.drain()
                    status = (await answer)[9:12].decode()
                    counts[f"large heads answered {status or 'nothing'}"] += 1
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.1)


async def _deaf(port: int, _encoded: bytes, counts: Counter[str]) -> None:
    while True:
        with suppress(OSError, TimeoutError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport, in fact
            counts["deaf connections"] += 1
            try:
                async with asyncio.timeout(_PATIENCE):
                    while True:
                        writer.write(f"GET {_LARGEST} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
                        await writer.drain()
                        await asyncio.sleep(0.01)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.1)


_KINDS = {"heavy": _heavy, "halves": _halves, "heads": _heads, "deaf": _deaf}


def _row(which: str, tally: Tally) -> dict[str, Any]:
    middle, late, last = np.percentile(tally.seconds, [50, 99, 100])
    return {
        "hostile": which,
        "requests": len(tally.seconds),
        "answered": tally.statuses[200],
        "wrong": tally.wrong,
        "requests_per_second": len(tally.seconds) / (tally.ended - tally.begun),
        "median_ms": 1e3 * float(middle),
        "p99_ms": 1e3 * float(late),
        "longest_ms": 1e3 * float(last),
    }


def _table(rows: list[dict[str, Any]], quick: bool) -> Table:
    table = Table(title="honest clients" + ("; quick run, not a measurement" if quick else ""))
    table.add_column("hostile clients")
    for column in ("requests", "answered", "wrong", "requests/s", "median", "p99", "longest"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["hostile"],
            f"{row['requests']:,}",
            f"{row['answered']:,}",
            str(row["wrong"]),
            f"{row['requests_per_second']:,.0f}",
            *(f"{row[f'{figure}_ms']:,.0f} ms" for figure in ("median", "p99", "longest")),
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
