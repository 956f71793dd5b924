"""This machine is never asked through a proxy of the environment."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flows import ROOT

# Asks this machine as Prefect's client and Python's own do, then prints what each got.
CLIENT = """
import sys
if sys.argv[2] == "flows":
    import flows.fixed
import json, urllib.request
import httpx
got = []
for host in ("127.0.0.1", "localhost"):
    url = f"http://{host}:{sys.argv[1]}/"
    for ask in (lambda: httpx.get(url).text, lambda: urllib.request.urlopen(url).read().decode()):
        try:
            got.append(ask())
        except Exception as error:
            got.append(type(error).__name__)
print(json.dumps(got))
"""


@contextmanager
def answering(text: str) -> Iterator[tuple[int, list[str]]]:
    """A server that answers each request with `text`. Yields its port and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


def asking(port: int, how: str, variables: dict[str, str]) -> list[str]:
    """What a process got that asked this machine on `port` with `variables` in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(port), how],
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    got: list[str] = json.loads(done.stdout)
    return got


@pytest.mark.parametrize(
    "variables",
    [
        {"http_proxy": "http://{}"},
        {"HTTP_PROXY": "http://{}", "NO_PROXY": ""},
        {"ALL_PROXY": "http://{}", "no_proxy": "intern.example, 10.0.0.0/8"},
        {"all_proxy": "http://{}", "NO_PROXY": "intern.example", "no_proxy": "other.example"},
        {"ALL_PROXY": "socks5://{}"},
        {"http_proxy": "http://{}", "https_proxy": "http://{}", "no_proxy": "*"},
    ],
    ids=str,
)
def test_this_machine_is_asked_directly(variables: dict[str, str]) -> None:
    with answering("proxy") as (proxy, through), answering("own") as (port, _):
        given = {name: value.format(f"127.0.0.1:{proxy}") for name, value in variables.items()}
        assert asking(port, "flows", given) == ["own"] * 4
        assert through == []


def test_without_the_project_the_proxy_is_asked() -> None:
    with answering("proxy") as (proxy, _), answering("own") as (port, _):
        assert asking(port, "alone", {"http_proxy": f"http://127.0.0.1:{proxy}"}) == ["proxy"] * 4


@pytest.mark.parametrize("hosts", ["", "intern.example,.local", "*"])
def test_other_hosts_keep_their_proxies(hosts: str) -> None:
    code = (
        "import flows, os, urllib.request as r; print(r.proxy_bypass('a.intern.example'), r.proxy_bypass('b.example'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"http_proxy": "http://127.0.0.1:9", "no_proxy": hosts, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == {"": "False False", "*": "True True"}.get(hosts, "True False")
