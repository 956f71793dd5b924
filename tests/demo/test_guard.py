"""Host and origin checks: only the demo's own pages and other programs get through. Headers of every answer."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from captchabench.demo.app import create_app
from captchabench.demo.names import Names, names_of
from captchabench.demo.service import Service
from captchabench.errors import InputError

SVC = "written-hog_svc-0"
LAN, LOOPBACK = "10.0.0.7", "127.0.0.1"


@pytest.fixture
def asked(make_service: Callable[..., Service], trained: Any) -> Callable[..., int]:
    """A function that sends an image with the given headers to a demo with the given names and returns the status."""

    def ask(names: Names, headers: dict[str, str] | list[tuple[str, str]]) -> int:
        with TestClient(create_app(make_service(), names)) as client:
            pairs = [*(headers.items() if isinstance(headers, dict) else headers)]
            return client.post(
                "/predict",
                params={"model": SVC},
                content=trained.images[0],
                headers=[("content-type", "image/png"), *pairs],
            ).status_code

    return ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        # A program other than a browser.
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ({"host": "[::1]:8000", "origin": "http://[::1]:8000"}, 200),
        ({"host": "LOCALHOST", "origin": "http://localhost"}, 200),
        # A page of another site, of another port, of another scheme, of a file; with and without what Chromium adds.
        ({"origin": "http://elsewhere.example", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://127.0.0.1:8001", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
        ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        # DNS rebinding: a foreign name that resolves to this machine, with a page from there.
        ({"host": "made.to.lead.here:8000", "origin": "http://made.to.lead.here:8000"}, 403),
        ({"host": ""}, 403),
        # Only programs send two.
        ([("host", "elsewhere.example"), ("host", "127.0.0.1:8000")], 403),
        ([("host", "127.0.0.1:8000"), ("host", "127.0.0.1:8000")], 403),
        ([("host", "127.0.0.1:8000"), ("origin", "null"), ("origin", "http://127.0.0.1:8000")], 403),
    ],
)
def test_on_loopback(asked: Callable[..., int], headers: dict[str, str] | list[tuple[str, str]], status: int) -> None:
    headers = {"host": "127.0.0.1:8000", **headers} if isinstance(headers, dict) else headers
    assert asked(names_of(LOOPBACK, []), headers) == status


@pytest.mark.parametrize(
    ("names", "headers", "status"),
    [
        (names_of(LAN, []), {"host": "10.0.0.7:8000", "origin": "http://10.0.0.7:8000"}, 200),
        # No sec-fetch-site: Chromium sends none to a name over plain HTTP.
        (names_of(LAN, []), {"host": "demo.lan:8000", "origin": "http://demo.lan:8000"}, 403),
        (names_of(LAN, ["demo.lan"]), {"host": "demo.lan:8000", "origin": "http://demo.lan:8000"}, 200),
        (names_of(LAN, ["demo.lan", "nas"]), {"host": "nas:8000"}, 200),
        (names_of(LAN, ["demo.lan"]), {"host": "10.0.0.7:8000"}, 200),
        # Another service of the same machine.
        (names_of(LAN, ["demo.lan"]), {"host": "demo.lan:8000", "origin": "http://demo.lan"}, 403),
        (names_of(LAN, ["demo.lan"]), {"host": "demo.lan:8000", "origin": "https://demo.lan:8000"}, 403),
        (names_of("0.0.0.0", []), {"host": "testserver:8000"}, 200),
        (names_of("0.0.0.0", []), {"host": "10.0.0.9:8000"}, 403),
        (names_of("0.0.0.0", []), {"host": "localhost:8000"}, 200),
        # Behind a proxy that keeps the Host header, and behind one that changes it.
        (names_of(LOOPBACK, ["https://a.example"]), {"host": "a.example", "origin": "https://a.example"}, 200),
        (names_of(LOOPBACK, ["https://a.example"]), {"host": "127.0.0.1:8000", "origin": "https://a.example"}, 200),
        (names_of(LOOPBACK, ["https://a.example"]), {"host": "a.example", "origin": "https://a.example:444"}, 403),
        (names_of(LOOPBACK, ["https://A.example:443"]), {"host": "a.example", "origin": "https://a.example"}, 200),
    ],
)
def test_by_its_names(asked: Callable[..., int], names: Names, headers: dict[str, str], status: int) -> None:
    # In tests the local address of a connection is called testserver.
    assert asked(names, headers) == status


@pytest.mark.parametrize(
    "given", ["", "two words", "name:80", "http://", "ftp://name", "*", "https://name/path", "a/b"]
)
def test_what_is_no_name_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(InputError, match=r"--allow-name .*demo\.lan"):
        names_of(LAN, [given])


@pytest.mark.parametrize(
    ("names", "reach"),
    [
        (names_of("127.0.0.1", []), "by users of this machine only; names: 127.0.0.1, localhost, [::1]"),
        (names_of("::1", []), "by users of this machine only; names: [::1], 127.0.0.1, localhost"),
        (
            names_of("127.0.0.1", ["https://a.example"]),
            "by users of this machine only, and by everyone whom the proxy admits; "
            "names: 127.0.0.1, localhost, [::1], a.example",
        ),
        (names_of(LAN, ["nas"]), "by everyone who can reach 10.0.0.7, without a password; names: 10.0.0.7, nas"),
        (
            names_of("::", []),
            "by everyone who can reach an address of this machine, without a password; "
            "names: any of its addresses, 127.0.0.1, localhost, [::1]",
        ),
    ],
)
def test_it_says_who_can_reach_it(names: Names, reach: str) -> None:
    assert names.reach == reach


def failing(make_service: Callable[..., Service], error: BaseException) -> Service:
    """A demo whose queue raises."""
    service = make_service()

    async def answer(*_: object) -> list[Any]:
        raise error

    vars(service.queue)["answer"] = answer
    return service


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (ZeroDivisionError(), 500, "internal error; see the terminal"),
        (asyncio.CancelledError(), 503, "the demo is stopping"),
    ],
)
def test_an_error_is_one_line_with_all_headers_and_is_counted(
    make_service: Callable[..., Service], trained: Any, error: BaseException, status: int, says: str
) -> None:
    service = failing(make_service, error)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        response = client.post("/predict", params={"model": SVC}, content=trained.images[0])
        metrics = client.get("/metrics").text
    assert response.status_code == status
    assert says in response.json()["error"]
    assert response.headers["content-security-policy"].startswith("default-src 'none';")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert f'captchabench_requests_total{{route="/predict",status="{status}"}} 1.0' in metrics
