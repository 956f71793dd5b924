"""A fake Kaggle: an HTTP proxy that answers Kaggle's client, correctly or with errors.

With KAGGLE_API_ENVIRONMENT=LOCALHOST the client connects to http://localhost through the proxy of the environment. So
nothing is patched, and no host name is resolved. Error responses quote the request, including the token: the worst that
a server can do.
"""

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import cv2
import numpy as np

ELSEWHERE = "storage.example"


def archive(images: int) -> bytes:
    """A zip archive like that of numbers6: `images` PNG files of noise, named by six digits."""
    packed = io.BytesIO()
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(packed, "w") as file:
        for number in range(images):
            coarse = rng.integers(0, 256, (8, 16), dtype=np.uint8)
            picture = cv2.resize(coarse, (150, 50), interpolation=cv2.INTER_LINEAR)
            file.writestr(f"images/{100000 + number * 7919}.png", cv2.imencode(".png", picture)[1].tobytes())
    return packed.getvalue()


@dataclass
class Kaggle:
    """The server. answer: how it responds, a key of ANSWERS. seen: host and headers of each request.

    watch: called before each answer.
    """

    packed: bytes
    answer: str = "zip"
    address: str = ""
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    watch: Callable[[], object] = lambda: None

    def environment(self, password: str) -> dict[str, str]:
        """Variables that direct Kaggle's client to this proxy, with a password for it."""
        proxy = f"http://someone:{password}@{self.address}"
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": proxy,
            "https_proxy": proxy,
            # Prefect's server and Dask are reached without the proxy.
            "no_proxy": "127.0.0.1",
        }


def _whole(handler: BaseHTTPRequestHandler, kaggle: Kaggle) -> None:
    _send(handler, 200, "application/zip", kaggle.packed)


def _status(code: int, kind: str) -> Callable[[BaseHTTPRequestHandler, Kaggle], None]:
    def answer(handler: BaseHTTPRequestHandler, _: Kaggle) -> None:
        quoted = f"you sent {dict(handler.headers)}"
        body = json.dumps({"code": code, "message": quoted}) if kind == "application/json" else f"<p>{quoted}</p>"
        _send(handler, code, kind, body.encode())

    return answer


def _cut_off(handler: BaseHTTPRequestHandler, kaggle: Kaggle) -> None:
    _send(handler, 200, "application/zip", kaggle.packed[: len(kaggle.packed) // 2], length=len(kaggle.packed))


def _page(handler: BaseHTTPRequestHandler, _: Kaggle) -> None:
    _send(handler, 200, "text/html", b"<html><title>Sign in</title></html>")


def _damaged(handler: BaseHTTPRequestHandler, kaggle: Kaggle) -> None:
    _send(handler, 200, "application/zip", kaggle.packed[: len(kaggle.packed) // 2])


def _redirect(handler: BaseHTTPRequestHandler, kaggle: Kaggle) -> None:
    if urlparse(handler.path).hostname == ELSEWHERE:
        _whole(handler, kaggle)
    else:
        _send(handler, 302, "text/plain", b"", location=f"http://{ELSEWHERE}/data.zip?signature=abc")


def _nowhere(handler: BaseHTTPRequestHandler, _: Kaggle) -> None:
    _send(handler, 302, "text/plain", b"", location=handler.path)


def _silence(handler: BaseHTTPRequestHandler, _: Kaggle) -> None:
    handler.close_connection = True


ANSWERS = {
    "zip": _whole,
    "redirect": _redirect,
    "401": _status(401, "application/json"),
    "403": _status(403, "application/json"),
    "404": _status(404, "application/json"),
    "500": _status(500, "text/html"),
    "cut off": _cut_off,
    "page": _page,
    "damaged": _damaged,
    "round and round": _nowhere,
    "silence": _silence,
}
GOOD = ("zip", "redirect")


@contextmanager
def serving(images: int = 60) -> Iterator[Kaggle]:
    """Runs the server."""
    kaggle = Kaggle(archive(images))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kaggle.seen.append((urlparse(self.path).hostname or "", dict(self.headers)))
            kaggle.watch()
            ANSWERS[kaggle.answer](self, kaggle)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Suppress the log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kaggle.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kaggle
        server.shutdown()


def _send(
    handler: BaseHTTPRequestHandler, code: int, kind: str, body: bytes, *, length: int | None = None, location: str = ""
) -> None:
    headers: Mapping[str, str] = {
        "Content-Type": kind,
        "Content-Length": str(len(body) if length is None else length),
        "Connection": "close",
        **({"Location": location} if location else {}),
    }
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def keep_in(place: str, home: Path, user: str, secret: str) -> dict[str, str]:
    """Store a token where Kaggle's client looks for it. place: one of PLACES. Returns the variables that it needs."""
    folder = home / ".kaggle"
    folder.mkdir(parents=True, exist_ok=True)
    own = {"HOME": str(home), "KAGGLEHUB_CACHE": str(home / "cache")}
    if place == "kaggle.json":
        (folder / "kaggle.json").write_text(json.dumps({"username": user, "key": secret}))
    elif place == "another folder's kaggle.json":
        (home / "config").mkdir(exist_ok=True)
        (home / "config/kaggle.json").write_text(json.dumps({"username": user, "key": secret}))
        own["KAGGLE_CONFIG_DIR"] = str(home / "config")
    elif place in ("access_token", "access_token.txt"):
        (folder / place).write_text(f"{secret}\n")
    elif place == "KAGGLE_USERNAME and KAGGLE_KEY":
        own |= {"KAGGLE_USERNAME": user, "KAGGLE_KEY": secret}
    elif place == "KAGGLE_API_TOKEN":
        own["KAGGLE_API_TOKEN"] = secret
    elif place == "a file that KAGGLE_API_TOKEN names":
        (home / "token").write_text(secret)
        own["KAGGLE_API_TOKEN"] = str(home / "token")
    else:
        raise ValueError(place)
    return own


PLACES = (
    "kaggle.json",
    "another folder's kaggle.json",
    "KAGGLE_USERNAME and KAGGLE_KEY",
    "KAGGLE_API_TOKEN",
    "a file that KAGGLE_API_TOKEN names",
    "access_token",
    "access_token.txt",
)
