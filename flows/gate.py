"""Prefect's server behind a check of who speaks to it: no other name than its own, no page of another site.

Prefect asks for a string, but takes any Host, and its websockets any Origin. Started as `python -m flows.gate HANDLE`,
the number of an inherited socket that listens.
"""

import os
import secrets
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The environment variable with the code of the link to sign in.
CODE = "CAPTCHABENCH_SIGN_IN_CODE"
# The UI asks nobody else for anything, and no page may have it in a frame.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# Hands the string on to the UI. Nothing of the request becomes part of it.
_SIGN_IN = Path(__file__).with_name("sign_in.html")
_SIGN_IN_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Gate:
    """Refuses requests and websockets that name another host, or come from a page of another.

    own: host and port, as in http://HOST:PORT. A page elsewhere that leads a name of its own here still sends that
    name, and a browser says of each request to another site whose page makes it.

    code: whoever sends it to /sign-in is told `string`, once. A link keeps it in the browser's history.
    """

    def __init__(self, app: ASGIApp, own: str, code: str = "", string: str = "") -> None:
        self._app = app
        self._code, self._string = code, string
        self._host, self._origin = own.encode(), f"http://{own}".encode()
        self._refusal = f"this server goes by http://{own} alone, and takes nothing from pages of other sites\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif not self._is_own(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await _answer(send, 403, "text/plain", _POLICY, self._refusal)
        elif scope["type"] == "http" and scope["path"] == "/sign-in" and scope["method"] == "GET":
            await _answer(send, 200, "text/html", _SIGN_IN_POLICY, _SIGN_IN.read_text(encoding="utf-8"))
        elif scope["type"] == "http" and scope["path"] == "/sign-in" and scope["method"] == "POST":
            await self._exchange(receive, send)
        else:
            await self._app(scope, receive, _guarded(send))

    async def _exchange(self, receive: Receive, send: Send) -> None:
        """Tell the string to whoever has the code that no one has used yet."""
        message = await receive()
        given = message.get("body", b"")
        if not message.get("more_body") and self._code and secrets.compare_digest(given, self._code.encode()):
            self._code = ""
            await _answer(send, 200, "text/plain", _POLICY, self._string)
        else:
            await _answer(send, 403, "text/plain", _POLICY, "this code is not valid, or was used\n")

    def _is_own(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = {value for name, value in scope["headers"] if name == b"origin"}
        return hosts == [self._host] and origins <= {self._origin}


def _guarded(send: Send) -> Send:
    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_headers(_POLICY)]
        await send(message)

    return send_guarded


async def _answer(send: Send, status: int, kind: str, policy: str, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
        *_headers(policy),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(policy: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


def main() -> None:
    """Serve Prefect on the socket whose number is given, as its settings in the environment say."""
    # What it makes is for its owner's eyes, the database above all.
    os.umask(0o077)
    # Not for what is started from here.
    code = os.environ.pop(CODE, "")
    from prefect.server.api.server import create_app

    listener = socket.socket(fileno=int(sys.argv[1]))
    host, port = listener.getsockname()
    config = uvicorn.Config(
        Gate(create_app(), f"{host}:{port}", code, os.environ["PREFECT_SERVER_API_AUTH_STRING"]),
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
