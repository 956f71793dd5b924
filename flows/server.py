"""Prefect's server as a child of ours: it is started again if it dies, and ends with us, however we end.

It asks for a string that is made anew at each start. Who has it can have Prefect run anything, so it is worth as much
as an account of whoever serves: it goes by the environment, and on no command line, which all users of a machine see.
"""

import errno
import os
import secrets
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from captchabench.errors import InputError
from flows import ROOT
from flows.gate import CODE
from flows.process import Processes, Stopped
from flows.resources import own_cores

HOST = "127.0.0.1"
# The first start makes the database.
_PATIENCE_SECONDS = 180.0
_PAUSE_SECONDS = 1.0
# After so many deaths at the start the next would be no other.
_TRIES = 4
# No proxy can reach it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """Prefect's server on this machine, which may still be starting. last_words: of each time that it ended.

    string: what it asks for. code: what the link to sign in holds; it is exchanged for the string, once.
    """

    address: str
    string: str = field(repr=False)
    code: str = field(repr=False)
    keeper: threading.Thread
    last_words: list[str]

    @property
    def settings(self) -> dict[str, str]:
        """Prefect's settings for those who speak to it, as environment variables."""
        return {
            "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_API_AUTH_STRING": self.string,
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
            **_no_proxy(),
        }

    def wait(self) -> None:
        """Return once it answers. Raises InputError if it does not start."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until and self.keeper.is_alive() and len(self.last_words) < _TRIES:
            try:
                with _DIRECT.open(f"{self.address}/api/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        how = f"({self.last_words[-1]})" if self.last_words else f"in {_PATIENCE_SECONDS:g} s"
        raise InputError(f"Prefect's server did not start {how}; {_log_file()} says more")


@contextmanager
def server(port: int, *, for_people: bool) -> Iterator[Server]:
    """Prefect's server on this machine, at `port`, or at a free one for 0, until the context ends.

    for_people: with the UI and the scheduler of deployments; without them it starts faster. Raises InputError where
    the port is taken, or Prefect's folder cannot be kept from others.
    """
    _keep_from_others(_home())
    processes = Processes()
    log, last_words, string = _open_log(), list[str](), f"captchabench:{secrets.token_urlsafe(32)}"
    code = secrets.token_urlsafe(16)
    with listen(port) as listener:
        own = f"{HOST}:{listener.getsockname()[1]}"
        keeper = threading.Thread(
            target=_keep_running,
            args=(processes, listener, _environment(own, string, for_people), code, log, last_words),
        )
        keeper.start()
        try:
            yield Server(f"http://{own}", string, code, keeper, last_words)
        finally:
            processes.end_all()
            keeper.join()
            # What a full disk did not take.
            with suppress(OSError):
                log.close()


@contextmanager
def kept_string(own: Server) -> Iterator[Path]:
    """A file with the server's string, for its owner's eyes, until the context ends."""
    path = _home() / f"string-{own.address.rpartition(':')[2]}"
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(own.string)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; who speaks to Prefect's server needs it") from None
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def listen(port: int) -> socket.socket:
    """A socket that listens on this machine alone. Raises InputError where the port is taken.

    It is ours while a server that died starts again: nobody else can step in, and be told the string.
    """
    try:
        return socket.create_server((HOST, port), backlog=2048)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise InputError(f"port {port}: {error.strerror}; give another: make schedule PORT=4200") from None
        raise InputError(f"port {port} is taken; free it, or give another: make schedule PORT={port + 2}") from None


def _environment(own: str, string: str, for_people: bool) -> dict[str, str]:
    """The settings of the server itself. own: its host and port."""
    settings = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": own.rpartition(":")[2],
        "PREFECT_SERVER_API_AUTH_STRING": string,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{own}",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_UI_API_URL": f"http://{own}/api",
    }
    if not for_people:
        settings |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    return {**os.environ, **settings}


def _no_proxy() -> dict[str, str]:
    """No proxy for what is on this machine: it would be told the string."""
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    return dict.fromkeys(("no_proxy", "NO_PROXY"), f"{others},{HOST}" if others else HOST)


def _keep_running(
    processes: Processes,
    listener: socket.socket,
    environment: Mapping[str, str],
    code: str,
    log: TextIO,
    last_words: list[str],
) -> None:
    def keep(line: str) -> None:
        # A disk that takes no log does not end the server.
        with suppress(OSError):
            print(line, file=log, flush=True)

    while True:
        try:
            ended = processes.run(
                [sys.executable, "-m", "flows.gate", str(listener.fileno())],
                cwd=ROOT,
                # A server that died may have taken the code already.
                environment=environment if last_words else {**environment, CODE: code},
                cores=own_cores(),
                time_limit=float("inf"),
                handed_down=[listener.fileno()],
                say=keep,
            )
        except Stopped:
            return
        told = [line for line in ended.lines if "Error: " in line] or list(ended.lines)
        last_words.append(told[-1] if told else f"exit code {ended.code}")
        print("Prefect's server has ended; starting it again", file=sys.stderr, flush=True)
        time.sleep(_PAUSE_SECONDS)


def _keep_from_others(home: Path) -> None:
    """Make Prefect's folder, if need be, and let its owner alone read it. Raises InputError where that fails."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        # Earlier versions left these open to all.
        for path in (*home.glob("prefect.db*"), *home.glob("server.log")):
            path.chmod(0o600)
    except OSError as error:
        raise InputError(
            f"{error.filename or home}: {error.strerror}; Prefect keeps its database there, for your eyes only"
        ) from None
    if home.stat().st_mode & 0o077:
        raise InputError(f"{home}: others can read it, whatever it is told; set PREFECT_HOME to a folder elsewhere")


def _open_log() -> TextIO:
    """What the server says goes there. Raises InputError where it cannot be written."""
    path = _log_file()
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; Prefect keeps its database there, too") from None


def _log_file() -> Path:
    return _home() / "server.log"


def _home() -> Path:
    return Path(os.environ["PREFECT_HOME"])
