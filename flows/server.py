"""Prefect's server as a child process. It is restarted if it dies, and it ends when this process ends.

It requires a password, which is new at each start. Whoever has it can make Prefect run any program, so
it is worth as much as the account of the user who serves. It is passed in the environment, never on a command line,
which all users of a machine can see.
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
from flows.resources import available_cores

HOST = "127.0.0.1"
# The first start takes longer, since it creates the database.
_PATIENCE_SECONDS = 180.0
_PAUSE_SECONDS = 1.0
# Give up after the server has died this often during its start.
_TRIES = 4
# Without a proxy, since a proxy cannot reach a loopback address.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """Prefect's server on this machine, which may still be starting. password: NAME:PASSWORD, as Prefect takes it.

    code: it is in the sign-in link and can be exchanged for the password once. last_lines: for each time that it ended,
    the last relevant line of its output.
    """

    address: str
    password: str = field(repr=False)
    code: str = field(repr=False)
    supervisor: threading.Thread
    last_lines: list[str]

    @property
    def settings(self) -> dict[str, str]:
        """Prefect's settings for clients of this server, as environment variables."""
        return {
            "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_API_AUTH_STRING": self.password,
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        }

    def wait(self) -> None:
        """Return once it responds. Raises InputError if it does not start."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline and self.supervisor.is_alive() and len(self.last_lines) < _TRIES:
            try:
                with _DIRECT.open(f"{self.address}/api/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        detail = f"({self.last_lines[-1]})" if self.last_lines else f"in {_PATIENCE_SECONDS:g} s"
        raise InputError(f"Prefect's server did not start {detail}; see {_log_file()}")


@contextmanager
def server(port: int, *, for_people: bool) -> Iterator[Server]:
    """Prefect's server on this machine, at `port`, or at a free one if 0, until the context ends.

    for_people: with the UI and the scheduler of deployments; without them it starts faster. Raises InputError if the
    port is taken, or if other users can read Prefect's folder.
    """
    _restrict_permissions(_home())
    processes = Processes()
    log, last_lines, password = _open_log(), list[str](), f"captchabench:{secrets.token_urlsafe(32)}"
    code = secrets.token_urlsafe(16)
    with listen(port) as listener:
        address = f"{HOST}:{listener.getsockname()[1]}"
        supervisor = threading.Thread(
            target=_keep_running,
            args=(processes, listener, _environment(address, password, for_people), code, log, last_lines),
        )
        supervisor.start()
        try:
            yield Server(f"http://{address}", password, code, supervisor, last_lines)
        finally:
            processes.end_all()
            supervisor.join()
            # Fails if the disk is full.
            with suppress(OSError):
                log.close()


@contextmanager
def password_file(prefect_server: Server) -> Iterator[Path]:
    """A file with the server's password, readable by its owner only, until the context ends."""
    path = _home() / f"password-{prefect_server.address.rpartition(':')[2]}"
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(prefect_server.password)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; clients of Prefect's server need this file") from None
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def listen(port: int) -> socket.socket:
    """A socket that listens on this machine only. Raises InputError if the port is taken.

    This process keeps it open while a server that died restarts. So no other program can take the port and receive
    the password.
    """
    try:
        return socket.create_server((HOST, port), backlog=2048)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise InputError(f"port {port}: {error.strerror}; give another: make schedule PORT=4200") from None
        raise InputError(f"port {port} is taken; free it, or give another: make schedule PORT={port + 2}") from None


def _environment(address: str, password: str, for_people: bool) -> dict[str, str]:
    """The environment of the server process. address: HOST:PORT."""
    settings = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": address.rpartition(":")[2],
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{address}",
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_UI_API_URL": f"http://{address}/api",
    }
    if not for_people:
        settings |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    return {**os.environ, **settings}


def _keep_running(
    processes: Processes,
    listener: socket.socket,
    environment: Mapping[str, str],
    code: str,
    log: TextIO,
    last_lines: list[str],
) -> None:
    def keep(line: str) -> None:
        # The server keeps running if its log cannot be written.
        with suppress(OSError):
            print(line, file=log, flush=True)

    while True:
        try:
            ended = processes.run(
                [sys.executable, "-m", "flows.gate", str(listener.fileno())],
                cwd=ROOT,
                # After a restart the code is void: it may have been used.
                environment=environment if last_lines else {**environment, CODE: code},
                cores=available_cores(),
                time_limit=float("inf"),
                pass_fds=[listener.fileno()],
                say=keep,
            )
        except Stopped:
            return
        errors = [line for line in ended.lines if "Error: " in line] or list(ended.lines)
        last_lines.append(errors[-1] if errors else f"exit code {ended.code}")
        print("Prefect's server has ended; restarting it", file=sys.stderr, flush=True)
        time.sleep(_PAUSE_SECONDS)


def _restrict_permissions(home: Path) -> None:
    """Create Prefect's folder if needed, readable by its owner only. Raises InputError if that fails."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        # Earlier versions made these readable for all users.
        for path in (*home.glob("prefect.db*"), *home.glob("server.log")):
            path.chmod(0o600)
    except OSError as error:
        raise InputError(
            f"{error.filename or home}: {error.strerror}; Prefect's database is there, and only you may read it"
        ) from None
    if home.stat().st_mode & 0o077:
        raise InputError(f"{home}: others can read it, and chmod has no effect; set PREFECT_HOME to a folder elsewhere")


def _open_log() -> TextIO:
    """Open the log file for the server's output. Raises InputError if it cannot be written."""
    path = _log_file()
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it writable, as is Prefect's database there") from None


def _log_file() -> Path:
    return _home() / "server.log"


def _home() -> Path:
    return Path(os.environ["PREFECT_HOME"])
