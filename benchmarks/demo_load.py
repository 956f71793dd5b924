"""How many images per second the demo reads for many clients at once, with and without batching.

Starts `captchabench demo` on loopback, once with batches and once with a batch size of one. --connections clients send
held-out images one after the other, each as the body of a request on a persistent connection, and wait for the answer.
Each text is compared with that of the `predict` stage for the same image, so an answer to another request counts as
wrong. The clients run on the machine of the server: on few cores this slows both settings about equally.

Needs the models, images and predictions of `make repro`.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.results import default_path, finish, run, say
from captchabench.demo.limits import Batching
from captchabench.demo.samples import Library
from captchabench.errors import InputError
from captchabench.networks.device import choose_device
from captchabench.predictions.held_out import read_predictions

_WARM_UP = 200


@dataclass(frozen=True)
class Question:
    """The bytes of one request, and the text that its answer must contain ("" for any)."""

    request: bytes
    text: str


@dataclass
class Tally:
    """Counts of the answers. seconds: latency of each request. begun, ended: of the whole measurement, on a clock."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    begun: float = 0.0
    ended: float = 0.0


def main(
    model: Annotated[str, typer.Option(help="The cell of the model, such as fournierp-crnn-0.")] = "fournierp-crnn-0",
    requests: Annotated[int, typer.Option(min=1, help="Requests with batching.")] = 10_000,
    requests_alone: Annotated[int, typer.Option(min=1, help="Requests without batching.")] = 2_000,
    connections: Annotated[int, typer.Option(min=1, help="Number of clients.")] = 200,
    max_batch: Annotated[int, typer.Option(min=2, help="Largest batch.")] = Batching.size,
    data: Annotated[Path, typer.Option(help="The data folder of `make repro`.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few requests, only to check that it runs.")] = False,
) -> None:
    """Measure throughput and latency of the demo with and without batching.

    For example: python -m benchmarks.demo_load --model numbers6-cnn_transformer-0
    """
    if quick:
        requests, requests_alone, connections = 60, 30, 8
    questions = question_list(data, model)
    rows = []
    # With spinning threads a single image is read faster, so this is the stronger baseline.
    runs = ((1, requests_alone, "active"), (1, requests_alone, "passive"), (max_batch, requests, "passive"))
    for batch, count, waiting in runs:
        say(f"batches of {batch}, waiting threads {waiting}: {count:,} requests")
        with server(data, batch, waiting) as port:
            asyncio.run(_ask(port, questions, min(_WARM_UP, count), connections))
            before = _batches(port)
            tally = asyncio.run(_ask(port, questions, count, connections))
            images, batches = (after - early for after, early in zip(_batches(port), before, strict=True))
            rows.append(_row(batch, waiting, tally, images / max(batches, 1)))
            if batch > 1:
                plain = asyncio.run(_ask(port, [_get("/healthz")], min(count, 5000), connections))
    spinning, alone, together = (row["requests_per_second"] for row in rows)
    result: dict[str, Any] = {
        "benchmark": "demo_load",
        "machine": machine(choose_device()),
        "model": model,
        "connections": connections,
        "images": len(questions),
        "rows": rows,
        "gain": together / alone,
        "gain_over_spinning": together / spinning,
        "plain_requests_per_second": _rate(plain),
        "quick": quick,
    }
    notes = [
        f"{result['machine']['processor']}, {result['machine']['cores']} cores, shared with the clients",
        f"{model}: {connections} connections, {len(questions)} different images",
        f"with batching {together / alone:.1f} times the requests per second of passive threads without batching, "
        f"{together / spinning:.1f} times those of spinning threads",
        f"requests without an image (/healthz): {_rate(plain):,.0f} per second",
    ]
    finish(out or default_path("demo_load"), result, notes, _table(rows, quick))


def question_list(data: Path, cell: str) -> list[Question]:
    """One question per held-out image of the cell. Raises InputError if `data` lacks its images."""
    info, table = read_predictions(data / "predictions" / f"{cell}.parquet")
    library = Library(data)
    if info.dataset not in library.datasets:
        raise InputError(f"{data}: has no images of {info.dataset}; run `make repro`")
    head = f"POST /predict?model={cell} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/png\r\ncontent-length: "
    questions = []
    for sample_id, text in zip(table["sample_id"].to_pylist(), table["prediction"].to_pylist(), strict=True):
        image = library.image(info.dataset, sample_id)
        questions.append(Question(f"{head}{len(image)}\r\n\r\n".encode() + image, text))
    return questions


def _get(path: str) -> Question:
    return Question(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode(), "")


@contextmanager
def server(data: Path, batch: int = Batching.size, waiting: str = "passive") -> Iterator[int]:
    """Runs a demo and yields its port. waiting: OMP_WAIT_POLICY of its threads, `active` or `passive`."""
    command = [sys.executable, "-c", "from captchabench.cli.app import app; app()", "demo", "--port", "0"]
    command += ["--models", str(data / "models"), "--data", str(data)]
    command += ["--max-batch", str(batch)]
    environment = {**os.environ, "OMP_WAIT_POLICY": waiting}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline())
        if address is None:
            raise InputError("the demo did not start; the reason is printed above")
        yield int(address[1])
    finally:
        server.terminate()
        server.wait()


def _batches(port: int) -> tuple[float, float]:
    """Images and batches that the demo has read so far."""
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    counts = (re.search(rf"^captchabench_batch_images_{name} (\S+)$", text, re.M) for name in ("sum", "count"))
    images, batches = (float(count[1]) if count else 0.0 for count in counts)
    return images, batches


async def _ask(port: int, questions: list[Question], count: int, connections: int) -> Tally:
    """Ask `count` questions in turn, one at a time on each connection."""
    tally = Tally()
    turns = iter(range(count))
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(questions, turns, tally), "127.0.0.1", port))[1]
        for _ in range(min(connections, count))
    ]
    tally.begun = time.perf_counter()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.done for client in clients))
    tally.ended = time.perf_counter()
    return tally


class Client(asyncio.Protocol):
    """A minimal HTTP client on a persistent connection: what it costs is taken from the server."""

    def __init__(self, questions: list[Question], turns: Iterator[int], tally: Tally) -> None:
        self._questions = questions
        self._turns = turns
        self._tally = tally
        self._received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def next(self) -> None:
        """Send the next question; close the connection if there is none."""
        turn = next(self._turns, None)
        if turn is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._question = self._questions[turn % len(self._questions)]
        self._sent = time.perf_counter()
        self._transport.write(self._question.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        if len(body) < int(length[1]):
            return
        self._tally.seconds.append(time.perf_counter() - self._sent)
        status = int(head[9:12])
        self._tally.statuses[status] += 1
        if status == 200 and self._question.text:
            self._tally.wrong += json.loads(body)["results"][0]["readings"][0]["text"] != self._question.text
        self._received = b""
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the demo closed the connection"))


def _rate(tally: Tally) -> float:
    return len(tally.seconds) / (tally.ended - tally.begun)


def _row(batch: int, waiting: str, tally: Tally, mean_batch: float) -> dict[str, Any]:
    middle, late = np.percentile(tally.seconds, [50, 99])
    return {
        "max_batch": batch,
        "waiting_threads": waiting,
        "mean_batch": mean_batch,
        "requests": len(tally.seconds),
        "answered": tally.statuses[200],
        "wrong": tally.wrong,
        "requests_per_second": _rate(tally),
        "median_ms": 1e3 * float(middle),
        "p99_ms": 1e3 * float(late),
    }


def _table(rows: list[dict[str, Any]], quick: bool) -> Table:
    table = Table(title="the demo under load" + ("; quick run, not a measurement" if quick else ""))
    for column in (
        "largest batch",
        "mean batch",
        "waiting threads",
        "requests",
        "answered",
        "wrong",
        "requests/s",
        "median",
        "p99",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            str(row["max_batch"]),
            f"{row['mean_batch']:.1f}",
            row["waiting_threads"],
            f"{row['requests']:,}",
            f"{row['answered']:,}",
            str(row["wrong"]),
            f"{row['requests_per_second']:,.0f}",
            f"{row['median_ms']:.0f} ms",
            f"{row['p99_ms']:.0f} ms",
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
