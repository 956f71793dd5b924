"""Prefect's server as a child of ours: it is started again if it dies, and ends with us, however we end."""

import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from captchabench.errors import InputError
from flows import ROOT
from flows.process import Processes, Stopped
from flows.resources import own_cores

HOST = "127.0.0.1"
# The first start makes the database.
_PATIENCE_SECONDS = 180.0
_PAUSE_SECONDS = 1.0
# After so many deaths at the start the next would be no other.
_TRIES = 4


@dataclass(frozen=True)
class Server:
    """Prefect's server on this machine, which may still be starting. last_words: of each time that it ended."""

    address: str
    keeper: threading.Thread
    last_words: list[str]

    @property
    def api(self) -> str:
        """The address that Prefect's settings want."""
        return f"{self.address}/api"

    def wait(self) -> None:
        """Return once it answers. Raises InputError if it does not start."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until and self.keeper.is_alive() and len(self.last_words) < _TRIES:
            try:
                with urllib.request.urlopen(f"{self.api}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        how = f"({self.last_words[-1]})" if self.last_words else f"in {_PATIENCE_SECONDS:g} s"
        raise InputError(f"Prefect's server did not start {how}; {_log_file()} says more")


@contextmanager
def server(port: int, *, for_people: bool) -> Iterator[Server]:
    """Prefect's server on this machine, at `port`, until the context ends.

    for_people: with the UI and the scheduler of deployments; without them it starts faster.
    """
    processes = Processes()
    log, last_words = _open_log(), list[str]()
    keeper = threading.Thread(target=_keep_running, args=(processes, port, for_people, log, last_words))
    keeper.start()
    try:
        yield Server(f"http://{HOST}:{port}", keeper, last_words)
    finally:
        processes.end_all()
        keeper.join()
        # What a full disk did not take.
        with suppress(OSError):
            log.close()


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _keep_running(processes: Processes, port: int, for_people: bool, log: TextIO, last_words: list[str]) -> None:
    own = {"PREFECT_SERVER_API_PORT": str(port)}
    if not for_people:
        own |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    app = ("-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on")
    where = ("--host", HOST, "--port", str(port), "--log-level", "warning")

    def keep(line: str) -> None:
        # A disk that takes no log does not end the server.
        with suppress(OSError):
            print(line, file=log, flush=True)

    while True:
        try:
            ended = processes.run(
                [sys.executable, *app, *where],
                cwd=ROOT,
                environment={**os.environ, **own},
                cores=own_cores(),
                time_limit=float("inf"),
                handed_down=[],
                say=keep,
            )
        except Stopped:
            return
        told = [line for line in ended.lines if "Error: " in line] or list(ended.lines)
        last_words.append(told[-1] if told else f"exit code {ended.code}")
        print("Prefect's server has ended; starting it again", file=sys.stderr, flush=True)
        time.sleep(_PAUSE_SECONDS)


def _open_log() -> TextIO:
    """What the server says goes there. Raises InputError where it cannot be written."""
    path = _log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; Prefect keeps its database there, too") from None


def _log_file() -> Path:
    return Path(os.environ["PREFECT_HOME"]) / "server.log"
