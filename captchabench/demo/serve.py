"""Runs the demo: finds the trained models and starts the server."""

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
from captchabench.demo.names import Names, names_of, root_path_of
from captchabench.demo.service import Service
from captchabench.errors import InputError
from captchabench.inference.loaded import read_about
from captchabench.models.saved import About

# Seconds that an idle connection is kept open for the next request.
_KEEP_ALIVE = 30
_BACKLOG = 1024
# The maximum number of open files other than connections.
_OTHER_FILES = 100


@dataclass(frozen=True)
class TrainedModels:
    """The trained models in a folder.

    folders, abouts: where each is and its metadata, by name. left_out: why folders were skipped, one line each.
    """

    folders: dict[str, Path]
    abouts: dict[str, About]
    left_out: list[str]


def find_models(folder: Path) -> TrainedModels:
    """The trained models in `folder`; no weights are read. Raises InputError if there are none."""
    models = TrainedModels({}, {}, [])
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            # A name that is not UTF-8 could not be sent in an answer.
            if path.name != path.name.encode("utf-8", "replace").decode():
                raise InputError(f"{path}: its name is not UTF-8; rename it")
            models.abouts[path.name] = read_about(path)
            models.folders[path.name] = path
        except InputError as error:
            models.left_out.append(str(error))
    if not models.abouts:
        why = f" ({models.left_out[0]})" if models.left_out else ""
        raise InputError(f"{folder}: holds no trained models{why}; run `make repro`, or give --models")
    return models


def serve(service: Service, host: str, port: int, allowed: Sequence[str], root_path: str) -> None:
    """Serve until interrupted.

    allowed: host names that the demo accepts besides the address; see `names_of`. root_path: see `create_app`. Raises
    InputError if the address, a name or the path cannot be used.
    """
    root_path = root_path_of(root_path)
    host_names = [] if _is_address(host) or host == "localhost" else [host]
    with _listen(host, port) as listener:
        names = names_of(listener.getsockname()[0], [*host_names, *allowed])
        defaults = ConnectionLimits()
        # Larger than the upload limit, so that the client receives an answer that states it.
        body = max(defaults.body, 8 * service.limits.upload)
        limits = replace(defaults, connections=_connection_limit(defaults.connections), body=body)
        address = f"[{host}]" if ":" in host else host
        print(f"demo: http://{address}:{listener.getsockname()[1]}{root_path}  (Ctrl-C to stop)", flush=True)
        print(f"reached {names.reach}", flush=True)
        server_of(service, limits, names, root_path).run(sockets=[listener])


def server_of(
    service: Service, limits: ConnectionLimits, names: Names | None = None, root_path: str = ""
) -> uvicorn.Server:
    """The server; it receives its socket when it is run. names, root_path: see `create_app`."""
    config = uvicorn.Config(
        create_app(service, names, root_path),
        http=partial(Connection, Gate(limits, service.monitor)),  # type: ignore[arg-type]  # uvicorn declares only classes
        access_log=False,
        # Invalid requests are counted, not logged one by one.
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


def _connection_limit(connections: int) -> int:
    """`connections`, or fewer if the limit on open files allows no more. Raises the soft limit if necessary."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return soft - _OTHER_FILES
    return connections
