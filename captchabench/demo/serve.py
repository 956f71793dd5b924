"""Running the demo: which models there are, and the server."""

import ipaddress
import os
import resource
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvicorn

from captchabench.demo.app import create_app
from captchabench.demo.connections import Connection, Gate
from captchabench.demo.limits import ConnectionLimits
from captchabench.demo.names import Names, names_of
from captchabench.demo.service import Service
from captchabench.errors import InputError
from captchabench.inference.loaded import read_about
from captchabench.models.saved import About

# Browsers keep connections for the next click.
_KEEP_ALIVE = 30
_BACKLOG = 1024
# Files that the demo has open beside its connections, at most.
_OTHER_FILES = 100


@dataclass(frozen=True)
class Found:
    """The trained models of a folder: where they are and what they say, by name; and why others were left out."""

    folders: dict[str, Path]
    abouts: dict[str, About]
    left_out: list[str]


def find_models(folder: Path) -> Found:
    """The trained models in `folder`; no weights are read. Raises InputError where there is none."""
    found = Found({}, {}, [])
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            # Bytes that are no text, which a name can hold, have no place in an answer.
            if path.name != path.name.encode("utf-8", "replace").decode():
                raise InputError(f"{path}: its name is not UTF-8; rename it")
            found.abouts[path.name] = read_about(path)
            found.folders[path.name] = path
        except InputError as error:
            found.left_out.append(str(error))
    if not found.abouts:
        why = f" ({found.left_out[0]})" if found.left_out else ""
        raise InputError(f"{folder}: holds no trained models{why}; run `make repro`, or give --models")
    return found


def serve(service: Service, host: str, port: int, allowed: Sequence[str] = ()) -> None:
    """Serve until interrupted. allowed: names that the demo goes by beside the address; see `names_of`.

    Raises InputError where the address cannot be used, or a name.
    """
    named = [] if _is_address(host) or host == "localhost" else [host]
    with _listen(host, port) as listener:
        names = names_of(listener.getsockname()[0], [*named, *allowed])
        usual = ConnectionLimits()
        # Who brings too much is to hear it; but not at any length.
        body = max(usual.body, 8 * service.limits.upload)
        limits = replace(usual, connections=_files_for(usual.connections), body=body)
        address = f"[{host}]" if ":" in host else host
        print(f"demo: http://{address}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        print(f"reached {names.reach}", flush=True)
        server_of(service, limits, names).run(sockets=[listener])


def server_of(service: Service, limits: ConnectionLimits, names: Names | None = None) -> uvicorn.Server:
    """The server, which is given its socket when it runs. names: see `create_app`."""
    config = uvicorn.Config(
        create_app(service, names),
        http=partial(Connection, Gate(limits, service.monitor)),  # type: ignore[arg-type]  # uvicorn names classes alone
        access_log=False,
        # Requests that cannot be understood are counted, not written down one by one.
        log_level="error",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError(
            f"{host}:{port}: cannot be listened on ({os.strerror(error.errno or 0)}); give --host or --port"
        ) from None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _files_for(connections: int) -> int:
    """How many of so many connections there can be: each is an open file, of which a process may have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft - _OTHER_FILES
    return connections
