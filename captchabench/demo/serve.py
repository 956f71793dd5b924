"""Running the demo: which models there are, and the server."""

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from captchabench.demo.app import create_app
from captchabench.demo.service import Service
from captchabench.errors import InputError
from captchabench.inference.loaded import read_about
from captchabench.models.saved import About

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Browsers keep connections for the next click.
_KEEP_ALIVE = 30
_BACKLOG = 1024


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


def serve(service: Service, host: str, port: int) -> None:
    """Serve until interrupted. Raises InputError where the address cannot be used."""
    listener = _listen(host, port)
    address = f"[{host}]" if ":" in host else host
    hosts = {*_LOOPBACK, address} if _is_loopback(host) else ()
    app = create_app(service, hosts)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=5,
    )
    print(f"demo: http://{address}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InputError(
            f"{host}:{port}: cannot be listened on ({os.strerror(error.errno or 0)}); give --host or --port"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
