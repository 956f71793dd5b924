"""The gate in front of Prefect: requests are admitted by their host and by the page that sends them."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.gate import Gate

OWN = "127.0.0.1:4200"
SOCKET = f"ws://{OWN}/socket"


async def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("inside")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A client of an application that admits everyone, behind the gate."""
    inside = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), WebSocketRoute("/socket", talk)])
    return TestClient(Gate(inside, OWN), base_url=f"http://{OWN}")


STRANGERS = [
    {"host": "evil.example:4200"},
    {"host": "localhost:4200"},
    {"host": "127.0.0.1"},
    {"host": "127.0.0.1:4201"},
    {"host": "127.0.0.1:4200.evil.example"},
    {"host": ""},
    {"origin": "http://evil.example"},
    {"origin": "http://localhost:4200"},
    {"origin": "http://127.0.0.1:4201"},
    {"origin": "https://127.0.0.1:4200"},
    {"origin": "null"},
    {"origin": ""},
    {"host": "evil.example:4200", "origin": "http://evil.example:4200"},
]


@pytest.mark.parametrize("headers", STRANGERS, ids=str)
def test_other_names_and_pages_of_other_sites_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    for answered in (client.get("/", headers=headers), client.post("/", headers=headers)):
        assert answered.status_code == 403
        assert answered.text.startswith(f"this server only answers as http://{OWN},")
        assert "access-control-allow-origin" not in answered.headers
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers=dict(headers)):
        pass


@pytest.mark.parametrize("headers", [{}, {"origin": f"http://{OWN}"}], ids=["a program", "its own page"])
def test_others_pass(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/", headers=headers).text == "inside"
    with client.websocket_connect(SOCKET, headers=dict(headers)) as socket:
        assert socket.receive_text() == "inside"


def test_a_request_that_names_two_hosts_is_refused(client: TestClient) -> None:
    assert client.get("/", headers=[("host", OWN), ("host", "evil.example")]).status_code == 403


@pytest.mark.parametrize("path", ["/", "/sign-in"])
def test_responses_forbid_frames_and_foreign_content(client: TestClient, path: str) -> None:
    policy = client.get(path).headers["content-security-policy"].split("; ")
    assert "frame-ancestors 'none'" in policy
    assert policy[0] in ("default-src 'self'", "default-src 'none'")
    assert not any("//" in part or "*" in part for part in policy)


def test_a_code_is_exchanged_for_the_password_once() -> None:
    client = TestClient(Gate(Starlette(), OWN, "once", "captchabench:x"), base_url=f"http://{OWN}")
    assert client.post("/sign-in", content="other").status_code == 403
    assert client.post("/sign-in", content="once", headers={"origin": "http://evil.example"}).status_code == 403
    answer = client.post("/sign-in", content="once")
    assert (answer.status_code, answer.text) == (200, "captchabench:x")
    assert client.post("/sign-in", content="once").status_code == 403


def test_without_a_code_nobody_is_told_the_password(client: TestClient) -> None:
    assert client.post("/sign-in", content="").status_code == 403
