"""Prefect's server behind a check of the Host and Origin headers: requests of other sites' pages are refused.

Prefect asks for a password, but accepts any Host, and its websockets accept any Origin. Started as
`python -m flows.gate HANDLE`, where HANDLE is the number of an inherited listening socket.
"""

import os
import secrets
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Environment variable with the code of the sign-in link.
CODE = "CAPTCHABENCH_SIGN_IN_CODE"
# The UI loads nothing from other sites, and no page may embed it in a frame.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# A static page that passes the password to the UI. It contains nothing from the request.
_SIGN_IN = Path(__file__).with_name("sign_in.html")
_SIGN_IN_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Gate:
    """Refuses requests and websockets with another Host or from a page of another Origin.

    address: HOST:PORT. If a page of another site resolves its own host name to this machine (DNS rebinding), the
    Host header still has that name. For cross-site requests a browser sends the Origin of the page.

    code: POST /sign-in exchanges it for `password`, once. A browser keeps the sign-in link in its history, so the link
    holds the code and not the password.
    """

    def __init__(self, app: ASGIApp, address: str, code: str = "", password: str = "") -> None:
        self._app = app
        self._code, self._password = code, password
        self._host, self._origin = address.encode(), f"http://{address}".encode()
        self._refusal = f"this server only answers as http://{address}, and refuses requests of pages of other sites\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif not self._is_same_origin(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await _answer(send, 403, "text/plain", _POLICY, self._refusal)
        elif scope["type"] == "http" and scope["path"] == "/sign-in" and scope["method"] == "GET":
            await _answer(send, 200, "text/html", _SIGN_IN_POLICY, _SIGN_IN.read_text(encoding="utf-8"))
        elif scope["type"] == "http" and scope["path"] == "/sign-in" and scope["method"] == "POST":
            await self._exchange(receive, send)
        else:
            await self._app(scope, receive, _with_security_headers(send))

    async def _exchange(self, receive: Receive, send: Send) -> None:
        """Answer with the password if the body is the unused code."""
        message = await receive()
        body = message.get("body", b"")
        if not message.get("more_body") and self._code and secrets.compare_digest(body, self._code.encode()):
            self._code = ""
            await _answer(send, 200, "text/plain", _POLICY, self._password)
        else:
            await _answer(send, 403, "text/plain", _POLICY, "this code is invalid or was used\n")

    def _is_same_origin(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = {value for name, value in scope["headers"] if name == b"origin"}
        return hosts == [self._host] and origins <= {self._origin}


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_headers(_POLICY)]
        await send(message)

    return send_with_headers


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
    """Serve Prefect on the given socket, with its settings from the environment."""
    # Only the owner may read the files that it creates, above all the database.
    os.umask(0o077)
    # Child processes do not need it.
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
