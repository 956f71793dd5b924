"""The outermost middleware: host and origin checks, the root path, security headers, and the count of requests."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captchabench.demo.monitoring import Monitor
from captchabench.demo.names import Names

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report has its styles, scripts and images inline and makes no requests.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT = "/report"
_SAFE = ("GET", "HEAD", "OPTIONS")


def security_headers(policy: str = _POLICY) -> list[tuple[bytes, bytes]]:
    """Headers that stop browsers from loading anything from other sites, or showing the demo inside them."""
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


class Guard:
    """Refuses requests that pages of other sites send through a visitor's browser; adds headers to every answer.

    names: the host names that the demo accepts; None: any. On loopback this prevents DNS rebinding. root_path: see
    `create_app`.
    """

    def __init__(self, app: ASGIApp, monitor: Monitor, names: Names | None, root_path: str) -> None:
        self._app = app
        self._monitor = monitor
        self._names = names
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        root = unquote(self._root_path)
        at_root = bool(root) and scope["path"] == root
        if root and scope["path"].startswith(f"{root}/"):
            scope = {**scope, "path": scope["path"].removeprefix(root)}
        headers = security_headers(_REPORT_POLICY if scope["path"] == REPORT else _POLICY)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *headers]
                # Only the templates of known routes: a requested path could be anything.
                route = getattr(scope.get("route"), "path", "other")
                self._monitor.requests.labels(route, str(message["status"])).inc()
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(send_guarded, 403, refusal)
            return
        if at_root:
            # The addresses in the page are relative to its own, which must end with a slash.
            await _redirect(send_guarded, f"{self._root_path}/")
            return
        try:
            await self._app(scope, receive, send_guarded)
        except asyncio.CancelledError:
            # On shutdown the server cancels requests that are not answered in time.
            if started:
                raise
            await _refuse(send_guarded, 503, "the demo is stopping; restart it, then send this again")

    def _refusal(self, scope: Scope) -> str | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        names = [name for name, _ in scope["headers"]]
        if names.count(b"host") > 1 or names.count(b"origin") > 1:
            return "a request has one Host and one Origin at most"
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._names is not None and not self._names.include(host, scope["server"]):
            return (
                f"this demo does not accept that host name; use {self._names.shown}, or start it with --allow-name NAME"
            )
        if scope["method"] in _SAFE:
            return None
        # Browsers state which page sends a POST. Only other programs send neither header.
        origin = headers.get(b"origin")
        site = headers.get(b"sec-fetch-site", b"none")
        if origin is not None:
            page = origin.decode("latin-1").lower()
            # Browsers omit the default port in an origin.
            own_origin = "http://" + re.sub(r":80$", "", host)
            if page == own_origin or (self._names is not None and page in self._names.origins):
                return None
        elif site in (b"none", b"same-origin"):
            return None
        return "pages of other sites may not use this demo; behind a proxy start it with --allow-name https://NAME"


async def _redirect(send: Send, address: str) -> None:
    headers = [(b"location", address.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body"})


async def _refuse(send: Send, status: int, error: str) -> None:
    body = json.dumps({"error": error}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
