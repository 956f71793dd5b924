"""A server of the user's that does not answer, or is another program, is one line."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from flows import ROOT


class Other(http.server.BaseHTTPRequestHandler):
    """Answers as its address asks: /404 with that status, other addresses with a page."""

    def do_POST(self) -> None:
        status = self.path.split("/")[1]
        self.send_response(int(status) if status.isdigit() else 200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[int]:
    """The port of a server that is not Prefect's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:{closed}/api", "Connection refused"),
        ("http://someone:secret@127.0.0.1:{other}/401/api", "HTTP status 401"),
        ("http://127.0.0.1:{other}/404", "HTTP status 404"),
        ("http://127.0.0.1:{other}/page/api", ""),
        ("prefect.example:4200", ""),
    ],
)
def test_an_address_without_a_server_is_one_line(address: str, reason: str, other: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = address.format(closed=free.getsockname()[1], other=other)
        done = subprocess.run(
            [sys.executable, "-m", "flows.run"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": url},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: PREFECT_API_URL: no Prefect server answers there (")
    assert reason in line
    assert "unset both" in line
    assert "secret" not in line
