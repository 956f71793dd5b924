"""`make schedule`: start Prefect's server, and serve the deployments of prefect.yaml until interrupted."""

import argparse
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from captchabench.config import read_yaml
from captchabench.errors import InputError
from flows import ROOT
from flows.fixed import add_options, fix
from flows.server import HOST, Server, kept_string, listen, server

_REPORT = ROOT / "reports/index.html"


def main(words: Sequence[str] | None = None) -> None:
    """Serve the benchmark on its schedule."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=main.__doc__)
    parser.add_argument("--port", type=int, default=4200, help="of the UI; the page has the next one")
    parser.add_argument("--cron", help="when to run, instead of what prefect.yaml says")
    add_options(parser)
    given = parser.parse_args(words)
    if not 1024 <= given.port < 65535:
        raise InputError(f"--port {given.port}: give one from 1024 to 65534")
    fix(given)
    with (
        _page(given.port + 1) as page,
        server(given.port, for_people=True) as own,
        kept_string(own) as string,
    ):
        # Prefect takes its own at import, and these go on to the runs.
        os.environ |= {**own.settings, "CAPTCHABENCH_PAGE": page}
        own.wait()
        _serve(own, string, given.cron)


def _serve(own: Server, string: Path, cron: str | None) -> None:
    from prefect import serve
    from prefect.deployments.runner import RunnerDeployment

    from flows.benchmark import benchmark

    # A path from the project's folder, where runs are started.
    os.chdir(ROOT)
    made = []
    for entry in read_yaml(ROOT / "prefect.yaml")["deployments"]:
        schedule: dict[str, Any] = (entry.get("schedules") or [{}])[0]
        when = schedule.get("cron") and (cron or schedule["cron"])
        deployment = benchmark.to_deployment(
            entry["name"],
            description=entry["description"],
            parameters=entry["parameters"],
            concurrency_limit=entry["concurrency_limit"],
            cron=when,
        )
        # It is a coroutine only where an event loop runs.
        made.append(cast(RunnerDeployment, deployment))
        print(f"{entry['name']}: {f'cron {when}' if when else 'on demand'}", flush=True)
    print(_how_to_sign_in(own, string), flush=True)
    serve(*made, limit=1, print_starting_message=False)


def _how_to_sign_in(own: Server, string: Path) -> str:
    """The link for whoever sits at the terminal; in a log only the name of the file with the string."""
    if sys.stdout.isatty():
        return f"UI: {own.address}/sign-in#{own.code} (for one sign-in; Ctrl-C ends it)"
    return f"UI: {own.address} (Ctrl-C ends it); it asks for what is in {string}"


@contextmanager
def _page(port: int) -> Iterator[str]:
    """Serve the report's page: a browser follows no link from a server to a file on disk. Yields its address."""
    with ThreadingHTTPServer((HOST, port), _Report, bind_and_activate=False) as http:
        http.socket.close()
        http.socket = listen(port)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{port}/index.html"
        http.shutdown()


class _Report(BaseHTTPRequestHandler):
    """The report's page, and no other file; under no other name."""

    timeout = 30

    def do_GET(self) -> None:
        """Answer with the page as it is now."""
        host, port = self.connection.getsockname()
        if self.headers.get_all("Host") != [f"{host}:{port}"]:
            self.send_error(403, "not a name of this server")
        elif self.path not in ("/", "/index.html"):
            self.send_error(404)
        elif not _REPORT.is_file():
            self.send_error(404, "no report yet", "The first run makes it")
        else:
            page = _REPORT.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
