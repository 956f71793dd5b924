"""`make schedule`: start the embedded Prefect server, and serve the deployments of prefect.yaml until interrupted."""

import argparse
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from captchabench.config import read_yaml
from captchabench.errors import InputError
from flows import ROOT
from flows.process import Processes, Stopped
from flows.resources import own_cores

_HOST = "127.0.0.1"
# The first start makes the database.
_PATIENCE_SECONDS = 180.0
_PAUSE_SECONDS = 1.0


def main(words: Sequence[str] | None = None) -> None:
    """Serve the benchmark on its schedule."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=main.__doc__)
    parser.add_argument("--port", type=int, default=4200, help="of the server and its UI")
    parser.add_argument("--cron", help="when to run, instead of what prefect.yaml says")
    given = parser.parse_args(words)
    _check_free(given.port)
    address = f"http://{_HOST}:{given.port}"
    # Prefect takes both at import, and this one goes on to the runs.
    os.environ |= {"PREFECT_API_URL": f"{address}/api", "PREFECT_SERVER_API_PORT": str(given.port)}
    processes = Processes()
    keeper = threading.Thread(target=_keep_serving, args=(processes, given.port))
    keeper.start()
    try:
        _await(f"{address}/api/health", keeper)
        _serve(address, given.cron)
    finally:
        processes.end_all()
        keeper.join()


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


def _keep_serving(processes: Processes, port: int) -> None:
    """Run the server, and again if it dies."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    log_file = _log_file()
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("w") as log:
        while True:
            try:
                processes.run(
                    command,
                    cwd=ROOT,
                    environment=os.environ,
                    cores=own_cores(),
                    time_limit=float("inf"),
                    handed_down=[],
                    say=lambda line: print(line, file=log, flush=True),
                )
            except Stopped:
                return
            print("the server has ended; starting it again", file=sys.stderr, flush=True)
            time.sleep(_PAUSE_SECONDS)


def _log_file() -> Path:
    return Path(os.environ["PREFECT_HOME"]) / "server.log"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((_HOST, port)) == 0:
            raise InputError(f"port {port} is taken; free it, or give another: make schedule PORT={port + 1}")


def _await(address: str, keeper: threading.Thread) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until and keeper.is_alive():
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InputError(f"the Prefect server did not start in {_PATIENCE_SECONDS:g} s; {_log_file()} says why")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
