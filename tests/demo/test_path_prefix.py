"""The demo behind a proxy that serves it under a path, as JupyterHub does."""

import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from captchabench.demo.app import create_app
from captchabench.demo.names import names_of, root_path_of
from captchabench.demo.service import Service
from captchabench.errors import InputError
from tests.demo.test_in_browser import CRNN, SVC, choose, give, go, paste, readings, text, wait_for_reading

PREFIX = "/user/x@y/proxy/8123"


class Hub(ThreadingHTTPServer):
    """A reverse proxy that serves the program on port `target` under PREFIX, and nothing else."""

    def __init__(self, keeps_path: bool, keeps_host: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keeps_path = keeps_path
        self.keeps_host = keeps_host
        self.target = 0
        self.elsewhere: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub = self.server
        if not self.path.startswith(PREFIX):
            hub.elsewhere.append(self.path)
            self.send_error(404)
            return
        headers = dict(self.headers.items())
        if not hub.keeps_host:
            headers["Host"] = f"127.0.0.1:{hub.target}"
        connection = HTTPConnection("127.0.0.1", hub.target, timeout=300)
        body = self.rfile.read(int(headers.get("Content-Length", 0)))
        path = self.path if hub.keeps_path else self.path.removeprefix(PREFIX)
        connection.request(self.command, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(
    params=[(False, False), (False, True), (True, True)],
    ids=["path and host are replaced", "path is removed", "path is passed on"],
)
def hub(request: pytest.FixtureRequest, make_service: Callable[..., Service]) -> Iterator[Hub]:
    """A proxy with a demo behind it, which was started with the options that docs/demo.md names for it."""
    keeps_path, keeps_host = request.param
    with Hub(keeps_path, keeps_host) as proxy:
        names = names_of("127.0.0.1", [] if keeps_host else [proxy.origin])
        app = create_app(make_service(), names, PREFIX if keeps_path else "")
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        threads = [threading.Thread(target=run) for run in (server.run, proxy.serve_forever)]
        for thread in threads:
            thread.start()
        while not server.started:
            time.sleep(0.01)
        proxy.target = server.servers[0].sockets[0].getsockname()[1]
        yield proxy
        proxy.shutdown()
        server.should_exit = True
        for thread in threads:
            thread.join()


# Swagger UI's form for one operation: open it, send the request, and return the status of the answer.
TRY = """(async () => {
  const block = [...document.querySelectorAll(".opblock")].find(one => one.textContent.includes("/healthz"));
  const found = async selector => {
    while (!block.querySelector(selector)) await new Promise(done => setTimeout(done, 20));
    return block.querySelector(selector);
  };
  for (const button of [".opblock-summary-control", ".try-out__btn", ".execute"]) (await found(button)).click();
  return (await found(".live-responses-table tbody .response-col_status")).innerText;
})()"""


def test_the_page_works_as_it_does_at_the_root(browser: Any, hub: Hub, trained: Any) -> None:
    place = f"{hub.origin}{PREFIX}/"
    browser.open(place)
    assert browser.problems == []
    assert browser.evaluate("getComputedStyle(document.querySelector('.bench')).display") == "grid"
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    assert readings(browser)[1] == trained.texts[SVC][0]
    browser.evaluate("document.querySelectorAll('#samples button')[3].click()")
    wait_for_reading(browser, 2)
    assert readings(browser)[1] == trained.texts[SVC][3]
    assert browser.evaluate("document.querySelector('#samples img').naturalWidth") > 0
    choose(browser, "shown", CRNN)
    browser.wait("document.getElementById('count').textContent.includes('misread')")
    # Other programs of the same host must not find these names.
    assert all(name.startswith(f"{PREFIX}/") for name in browser.evaluate("Object.keys(sessionStorage)"))

    go(browser, "document.querySelector('nav [href=docs]').click()", f"{PREFIX}/docs")
    assert browser.evaluate(TRY).split() == ["200"]
    go(browser, "document.querySelector('nav a').click()", f"{PREFIX}/")
    browser.evaluate("document.getElementById('report').click()")
    while browser.evaluate("document.title") != "report":
        time.sleep(0.02)
    assert browser.evaluate("location.pathname") == f"{PREFIX}/report"
    assert hub.elsewhere == []
    assert all(asked.startswith((place, "data:", "blob:")) for asked in browser.requests)


def test_a_page_elsewhere_on_the_host_is_not_its_own(browser: Any, hub: Hub) -> None:
    """A proxy that replaces the host would otherwise make any page's request look like one of this machine."""
    connection = HTTPConnection("127.0.0.1", hub.server_port, timeout=300)
    connection.request("POST", f"{PREFIX}/predict?model={SVC}", b"", {"origin": "http://elsewhere.example"})
    assert connection.getresponse().status == 403
    connection.close()


@pytest.fixture
def under(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    """A client of a demo with a root path. Redirects are not followed."""
    with TestClient(create_app(make_service(), root_path="/services/d%20mo"), follow_redirects=False) as client:
        yield client


def test_the_root_path_may_be_in_a_request_or_not(under: TestClient) -> None:
    for path in ("/services/d%20mo/models", "/models", "/services/d%20mo/static/page.js", "/static/page.js"):
        assert under.get(path).status_code == 200, path
    assert "unsafe" in under.get("/services/d%20mo/report").headers["content-security-policy"]
    assert 'captchabench_requests_total{route="/models",status="200"} 2.0' in under.get("/metrics").text
    for path in ("/services/d%20moon/models", "/services/models", "/services/d%20mo/services/d%20mo/models"):
        assert under.get(path).status_code == 404, path


def test_without_its_last_slash_the_root_path_leads_to_the_page(under: TestClient) -> None:
    answer = under.get("/services/d%20mo")
    assert (answer.status_code, answer.headers["location"]) == (307, "/services/d%20mo/")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_answer_names_an_address_outside_the_path(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["servers"] == [{"url": "."}]
    (sample,) = client.get("/samples/written", params={"limit": 1}).json()["samples"]
    assert sample["image"] == f"samples/written/{sample['sample_id']}"
    # A redirect would name the host and the port behind the proxy.
    assert client.get("/docs/", follow_redirects=False).status_code == 404


@pytest.mark.parametrize(("given", "path"), [("", ""), ("/", ""), ("/demo", "/demo"), ("/a/b@c/", "/a/b@c")])
def test_a_root_path_is_taken_with_or_without_a_slash_at_its_end(given: str, path: str) -> None:
    assert root_path_of(given) == path


@pytest.mark.parametrize("given", ["demo", "//evil.example", "https://hub.example/demo", "/a b", "/a?b", "/a\r\nb"])
def test_what_is_no_path_is_refused_at_the_start(given: str) -> None:
    with pytest.raises(InputError, match=r"--root-path .*/services/demo"):
        root_path_of(given)


def test_a_kept_choice_is_found_again_in_its_own_place_alone(browser: Any, hub: Hub) -> None:
    browser.open(f"{hub.origin}{PREFIX}/")
    browser.evaluate("sessionStorage.clear(); sessionStorage.pictures = '[]'")
    browser.open(f"{hub.origin}{PREFIX}/")
    assert "too large" not in text(browser, "#status")
    browser.evaluate(f"sessionStorage['{PREFIX}/pictures'] = '[]'")
    browser.open(f"{hub.origin}{PREFIX}/")
    assert "too large" in text(browser, "#status")
