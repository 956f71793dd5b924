"""The outermost layer: who may speak to the demo, what browsers may do with its pages, what is counted."""

import re
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captchabench.demo.monitoring import Monitor

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report keeps its styles, scripts and pictures inside, and asks nobody for anything.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT = "/report"
_PORT = re.compile(r":\d+$")


class Guard:
    """Refuses what another site's page may send by way of a visitor's browser, and adds headers to every answer.

    hosts: names that the demo goes by; any if empty. On loopback that keeps out names that were made to lead here.
    """

    def __init__(self, app: ASGIApp, monitor: Monitor, hosts: Collection[str]) -> None:
        self._app = app
        self._monitor = monitor
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        policy = _REPORT_POLICY if scope["path"] == REPORT else _POLICY

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", policy.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
                # Only paths that exist, without their parameters: an address may hold anything.
                route = getattr(scope.get("route"), "path", "other")
                self._monitor.requests.labels(route, str(message["status"])).inc()
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            await _refuse(send_guarded, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = _PORT.sub("", headers.get(b"host", b"").decode("latin-1"))
        if self._hosts and host not in self._hosts:
            return 403, "this demo does not go by that name; use the address that it printed"
        if scope["method"] == "POST" and headers.get(b"sec-fetch-site", b"same-origin") == b"cross-site":
            return 403, "pages of other sites may not use this demo"
        return None


async def _refuse(send: Send, status: int, error: str) -> None:
    body = f'{{"error": "{error}"}}'.encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
