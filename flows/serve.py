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
from flows import ROOT, run_command
from flows.fixed import add_options, fix
from flows.server import HOST, Server, listen, password_file, server

_REPORT = ROOT / "reports/index.html"


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the benchmark on its schedule."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=main.__doc__)
    parser.add_argument("--port", type=int, default=4200, help="port of the UI; the report page uses the next one")
    parser.add_argument("--cron", help="when to run, instead of the schedule in prefect.yaml")
    add_options(parser)
    arguments = parser.parse_args(argv)
    if not 1024 <= arguments.port < 65535:
        raise InputError(f"--port {arguments.port}: give one from 1024 to 65534")
    fix(arguments)
    with (
        _page(arguments.port + 1) as page,
        server(arguments.port, for_people=True) as prefect_server,
        password_file(prefect_server) as path,
    ):
        # Prefect reads its settings when it is imported. The runs inherit all of these.
        os.environ |= {**prefect_server.settings, "CAPTCHABENCH_PAGE": page}
        prefect_server.wait()
        _serve(prefect_server, path, arguments.cron)


def _serve(prefect_server: Server, path: Path, cron: str | None) -> None:
    from prefect import serve
    from prefect.deployments.runner import RunnerDeployment

    from flows.benchmark import benchmark

    # Prefect stores the entry point relative to the current folder, and runs start in the project's folder.
    os.chdir(ROOT)
    deployments = []
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
        # A coroutine only inside a running event loop.
        deployments.append(cast(RunnerDeployment, deployment))
        print(f"{entry['name']}: {f'cron {when}' if when else 'on demand'}", flush=True)
    print(_sign_in_line(prefect_server, path), flush=True)
    serve(*deployments, limit=1, print_starting_message=False)


def _sign_in_line(prefect_server: Server, path: Path) -> str:
    """How to sign in. The link is shown only on a terminal, so that it gets into no log."""
    if sys.stdout.isatty():
        return f"UI: {prefect_server.address}/sign-in#{prefect_server.code} (for one sign-in; Ctrl-C ends it)"
    return f"UI: {prefect_server.address} (Ctrl-C ends it); the password that it asks for is in {path}"


@contextmanager
def _page(port: int) -> Iterator[str]:
    """Serve the report page, since browsers do not follow links from a website to a local file. Yields its address."""
    with ThreadingHTTPServer((HOST, port), _Report, bind_and_activate=False) as http:
        http.socket.close()
        http.socket = listen(port)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{port}/index.html"
        http.shutdown()


class _Report(BaseHTTPRequestHandler):
    """Serves the report page and no other file, and only under the server's address."""

    timeout = 30

    def do_GET(self) -> None:
        """Respond with the current page."""
        host, port = self.connection.getsockname()
        if self.headers.get_all("Host") != [f"{host}:{port}"]:
            self.send_error(403, "not the address of this server")
        elif self.path not in ("/", "/index.html"):
            self.send_error(404)
        elif not _REPORT.is_file():
            self.send_error(404, "no report yet", "The first run creates it")
        else:
            page = _REPORT.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    run_command(main)
