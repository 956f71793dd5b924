"""The demo as a user starts it: a separate process, used over HTTP and from headless Chromium."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from benchmarks import demo_load

SVC, CRNN = "written-hog_svc-0", "written-crnn-0"


@dataclass(frozen=True)
class Running:
    """A running demo: its process and its port."""

    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def children(self) -> list[psutil.Process]:
        """The processes that it started, including the one that reads."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return children

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=3000)
        connection.request(method, path, body, {"content-type": "image/png"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        connection.close()
        return answer.status, content


@pytest.fixture(scope="module")
def running(trained: Any) -> Iterator[Running]:
    """A demo of two small models. When killed at the end it leaves no process behind and has printed no errors."""
    complaints = trained.folder / "complaints.txt"
    argv = ["demo", "--port", "0", "--max-upload", "1"]
    with complaints.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", "from captchabench.cli.app import app; app()", *argv],
            cwd=trained.folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    assert process.stdout is not None
    match = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
    assert match
    assert process.stdout.readline().startswith("reached by users of this machine only;")
    demo = Running(process, int(match[1]))
    demo.ask("POST", f"/predict?model={SVC}&model={CRNN}", trained.images[0])
    yield demo
    errors = complaints.read_text()
    left = demo.children()
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(left, timeout=3000)
    assert gone
    assert not alive
    assert errors in ("", "the process that reads images died; starting another\n")


@pytest.fixture(scope="module")
def questions(trained: Any) -> list[demo_load.Question]:
    return demo_load.question_list(trained.data, SVC)


def test_two_hundred_at_once_get_each_their_own_answer(running: Running, questions: list[demo_load.Question]) -> None:
    assert len({question.text for question in questions}) > 30
    tally = asyncio.run(demo_load._ask(running.port, questions, 400, 200))
    assert dict(tally.statuses) == {200: 400}
    assert tally.wrong == 0
    images, batches = demo_load._batches(running.port)
    assert images / batches > 2


def test_the_load_test_sees_an_answer_in_the_wrong_place(running: Running, questions: list[demo_load.Question]) -> None:
    shifted = [demo_load.Question(one.request, other.text) for one, other in pairwise(questions)]
    tally = asyncio.run(demo_load._ask(running.port, shifted, len(shifted), 4))
    assert tally.wrong > len(shifted) / 2


def test_an_upload_of_any_length_is_cut_off_while_it_comes(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=300) as line:
        line.sendall(f"POST /predict?model={SVC} HTTP/1.1\r\nhost: localhost\r\n".encode())
        line.sendall(b"content-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n")
        sent = 0
        with suppress(ConnectionError):
            while sent < 20 << 20:
                line.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent += 1 << 16
        assert sent < 20 << 20
    assert running.ask("GET", "/healthz")[0] == 200


def test_an_upload_that_is_said_to_be_too_large_does_not_cost_the_connection(running: Running, trained: Any) -> None:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=300)
    statuses = []
    for body in (bytes(5 << 20), trained.images[0]):
        connection.request("POST", f"/predict?model={SVC}", body, {"content-type": "image/png"})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    assert statuses == [413, 200]


def test_the_interface_is_what_its_document_says(running: Running) -> None:
    """Requests made from the OpenAPI document, right and wrong ones: no fault of the server, answers as described."""
    schema = schemathesis.openapi.from_url(f"{running.address}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) == 8
    for operation in operations:

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def check(case: schemathesis.Case[Any]) -> None:
            # The document allows images of one pixel, but the demo refuses them as too small.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        check()


def test_the_processes_that_read_and_decode_are_replaced_when_they_die(running: Running, trained: Any) -> None:
    path = f"/predict?model={SVC}"
    large = cv2.imencode(".png", np.zeros((1600, 1600), np.uint8))[1].tobytes()
    assert running.ask("POST", path, large)[0] == 200
    workers = [child for child in running.children() if "--multiprocessing-fork" in child.cmdline()]
    assert len(workers) == 2
    for worker in workers:
        worker.kill()
    for image in (trained.images[0], large):
        answers = [running.ask("POST", path, image) for _ in range(2)]
        assert [status for status, _ in answers] in ([503, 200], [200, 200])
        text = answers[1][1]["results"][0]["readings"][0]["text"]
        assert text == trained.texts[SVC][0] or image is large


def test_a_large_head_is_refused_by_the_demo_as_it_runs(running: Running) -> None:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=300)
    connection.request("GET", "/models", headers={"x-large": "x" * (1 << 20)})
    answer = connection.getresponse()
    assert answer.status == 431
    assert "KiB" in json.loads(answer.read())["error"]
    connection.close()


SEND = """(async () => {
  const how = {method: "POST", mode: "%s", body: new Blob([new Uint8Array(4)], {type: "text/plain"})};
  const ask = address => fetch(address, how).then(answer => answer.status, () => -1);
  return JSON.stringify([await ask("http://127.0.0.1:%d/predict?model=%s")]);
})()"""


def test_a_page_of_another_port_reaches_nothing(browser: Any, running: Running) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><body data-ready=drawn>")

        def log_message(self, *_: object) -> None:
            pass

    def refused() -> int:
        connection = HTTPConnection("127.0.0.1", running.port, timeout=300)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        match = re.search(r'captchabench_requests_total{route="other",status="403"} (\d+)', text)
        return int(match[1]) if match else 0

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        before = refused()
        browser.open(f"http://127.0.0.1:{other.server_port}/")
        # The page cannot read the answer, but the demo refused the request.
        assert browser.evaluate(SEND % ("no-cors", running.port, SVC)) in ("[0]", "[-1]")
        assert refused() == before + 1
        other.shutdown()
    browser.open(running.address)
    assert browser.evaluate(SEND % ("cors", running.port, SVC)) == "[415]"
