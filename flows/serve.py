"""`make schedule`: start Prefect's server, and serve the deployments of prefect.yaml until interrupted."""

import argparse
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from captchabench.config import read_yaml
from captchabench.errors import InputError
from flows import ROOT
from flows.server import HOST, server


def main(words: Sequence[str] | None = None) -> None:
    """Serve the benchmark on its schedule."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=main.__doc__)
    parser.add_argument("--port", type=int, default=4200, help="of the UI; the page has the next one")
    parser.add_argument("--cron", help="when to run, instead of what prefect.yaml says")
    given = parser.parse_args(words)
    for port in (given.port, given.port + 1):
        _check_free(port, given.port)
    with _page(given.port + 1) as page, server(given.port, for_people=True) as own:
        # Prefect takes its own at import, and these go on to the runs.
        os.environ |= {"PREFECT_API_URL": own.api, "CAPTCHABENCH_PAGE": page}
        own.wait()
        _serve(own.address, given.cron)


def _serve(address: str, cron: str | None) -> None:
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
    print(f"UI: {address} (Ctrl-C ends it)", flush=True)
    serve(*made, limit=1, print_starting_message=False)


@contextmanager
def _page(port: int) -> Iterator[str]:
    """Serve the folder of the report: a browser follows no link from a server to a file on disk. Yields the address."""
    with ThreadingHTTPServer((HOST, port), partial(_Quiet, directory=str(ROOT / "reports"))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{port}/index.html"
        http.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    """Files, without a line for each that is asked for."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _check_free(port: int, first: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise InputError(f"port {port} is taken; free it, or give another: make schedule PORT={first + 2}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
