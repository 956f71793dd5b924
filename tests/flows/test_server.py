"""Prefect's server as `flows.run` and `flows.serve` start it: nobody gets in without the password."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from captchabench.errors import InputError
from flows.server import Server, password_file, server
from tests.flows.watching import await_that, needs_proc

SOCKETS = (
    "events/in",
    "events/out",
    "logs/out",
    "task_runs/subscriptions/scheduled",
    "work_pools/any/workers/connect",
)
REQUESTS = (
    ("POST", "deployments/filter"),
    ("POST", "flow_runs/"),
    ("POST", "flows/"),
    ("POST", "task_runs/"),
    ("POST", "automations/"),
    ("PATCH", "deployments/00000000-0000-0000-0000-000000000000"),
    ("DELETE", "flows/00000000-0000-0000-0000-000000000000"),
    ("GET", "admin/settings"),
    ("GET", "csrf-token?client=any"),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's folder as an earlier version left it: readable by all users."""
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o755)
    for name in ("prefect.db", "server.log"):
        (folder / name).touch(0o644)
    return folder


@pytest.fixture(scope="module")
def own(home: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PREFECT_HOME", str(home))
        # Settings that a user made for another server must not open this one.
        patched.setenv("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "*")
        patched.setenv("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "false")
        patched.setenv("PREFECT_SERVER_API_AUTH_STRING", "known:to all")
        with server(0, for_people=False) as started:
            started.wait()
            yield started


@pytest.fixture
def client(own: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{own.address}/api/", trust_env=False, timeout=60) as opened:
        yield opened


def holder(own: Server) -> httpx.BasicAuth:
    return httpx.BasicAuth(*own.password.split(":"))


def running() -> psutil.Process:
    """The process that listens."""
    below = psutil.Process().children(recursive=True)
    return next(one for one in below if one.cmdline()[1:3] == ["-m", "flows.gate"])


def open_socket(own: Server, path: str, **more: Any) -> ClientConnection:
    address = own.address.replace("http", "ws")
    return connect(f"{address}/api/{path}", subprotocols=[Subprotocol("prefect")], proxy=None, **more)


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_without_the_password_nothing_is_done_or_returned(client: httpx.Client, method: str, path: str) -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"auth": ("captchabench", "guess")},
        {"auth": ("known", "to all")},
        {"auth": ("", "")},
    )
    for who in wrong:
        answered = client.request(method, path, json={} if method != "GET" else None, **who)
        # 403: there is no CSRF token, which is not given without the password.
        assert answered.status_code == (401 if method == "GET" else 403)
    assert client.request(method, path, headers={"authorization": "Bearer x"}).status_code in (401, 403)


def test_changes_need_the_password_and_a_token(own: Server, client: httpx.Client) -> None:
    assert client.get("admin/version", auth=holder(own)).status_code == 200
    assert client.post("flows/filter", json={}, auth=holder(own)).json() == {"detail": "Missing CSRF token."}
    token = client.get("csrf-token?client=ours", auth=holder(own)).json()["token"]
    both = {"prefect-csrf-token": token, "prefect-csrf-client": "ours"}
    assert client.post("flows/filter", json={}, headers=both).status_code == 401
    assert client.post("flows/filter", json={}, headers=both, auth=holder(own)).json() == []


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}], ids=str)
def test_a_foreign_name_or_page_gets_nothing_even_with_the_password(
    own: Server, client: httpx.Client, headers: dict[str, str]
) -> None:
    assert client.get("admin/version", auth=holder(own), headers=headers).status_code == 403
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    answered = client.options("flows/filter", headers={"origin": "http://evil.example", **headers, **asked})
    assert answered.status_code == 403
    assert not any(name.startswith("access-control") for name in answered.headers)


def test_cors_is_limited_to_its_own_address(own: Server, client: httpx.Client) -> None:
    answered = client.get("admin/version", auth=holder(own), headers={"origin": own.address})
    assert answered.headers["access-control-allow-origin"] == own.address


@pytest.mark.parametrize("path", SOCKETS)
def test_websockets_need_the_password(own: Server, path: str) -> None:
    for origin in ("http://evil.example", "http://localhost"):
        with pytest.raises(InvalidStatus, match="403"):
            open_socket(own, path, origin=origin)
    for first in ({"type": "auth", "token": "guess"}, {"type": "auth"}, {"type": "subscribe"}):
        with open_socket(own, path) as opened:
            opened.send(json.dumps(first))
            with pytest.raises(ConnectionClosed):
                opened.recv(timeout=60)
    with open_socket(own, path, origin=own.address) as opened:
        opened.send(json.dumps({"type": "auth", "token": own.password}))
        assert json.loads(opened.recv(timeout=60)) == {"type": "auth_success"}


@pytest.mark.parametrize("path", SOCKETS)
def test_websockets_of_older_clients_are_refused(own: Server, path: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"{own.address.replace('http', 'ws')}/api/{path}", proxy=None)


def test_files_are_readable_by_their_owner_only(own: Server, home: Path) -> None:
    assert home.stat().st_mode & 0o777 == 0o700
    files = [path for path in home.iterdir() if path.is_file()]
    assert {"prefect.db", "prefect.db-wal", "server.log"} <= {path.name for path in files}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_password_is_in_a_file_of_its_owner_while_the_server_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(home))
    left = home / "password-4200"
    left.touch(0o644)
    with password_file(Server("http://127.0.0.1:4200", "captchabench:x", "once", threading.Thread(), [])) as path:
        assert path == left
        assert path.read_text() == "captchabench:x"
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_a_folder_that_others_can_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    tmp_path.chmod(0o755)
    # As on a file system without owners.
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.raises(InputError, match="others can read it"), server(0, for_people=False):
        pass


@needs_proc
def test_the_password_is_in_no_command_line_and_no_log(own: Server, home: Path) -> None:
    secret = own.password.partition(":")[2]
    lines = [b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())]
    assert b"flows.gate" in lines[0]
    for content in (*lines, *(path.read_bytes() for path in home.iterdir() if path.is_file())):
        assert secret.encode() not in content
    assert secret not in repr(own)


def test_only_this_machine_can_reach_it_and_only_there(own: Server) -> None:
    gate = running()
    listening = {one.laddr for one in gate.net_connections() if one.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert len(listening) == 1


def test_the_port_stays_reserved_while_the_server_restarts(own: Server) -> None:
    gate = running()
    gate.kill()
    await_that(lambda: bool(own.last_lines))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", int(own.address.rpartition(":")[2])))
    own.wait()
