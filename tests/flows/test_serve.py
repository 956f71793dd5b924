"""Attacks on `make schedule`: by web pages, by other users of the machine, by those who may start runs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows import ROOT, serve
from flows.gate import CODE
from flows.server import Server
from tests.browser import Browser
from tests.flows.watching import await_that

EVIL = "stages: {boom: {cmd: touch ran, outs: [ran]}}"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


# The attempts of a page of another site. api: Prefect's address. password: of the server, in case it leaked.
ATTACK = """
(async (api, password) => {
  const authorization = {authorization: "Basic " + btoa(password)};
  const json = {"content-type": "application/json"};
  const run = JSON.stringify({parameters: {root: "/"}, state: {type: "SCHEDULED"}});
  const create = `${api}/deployments/NIGHTLY/create_flow_run`;
  const said = request => request.then(answer => answer.type === "opaque" ? "opaque" : answer.status, () => "none");
  const socket = new Promise(done => {
    const opened = new WebSocket(`${api.replace("http", "ws")}/events/in`, ["prefect"]);
    opened.onopen = () => done("open");
    opened.onerror = () => done("none");
  });
  return [
    await said(fetch(create, {method: "POST", headers: json, body: run})),
    await said(fetch(create, {method: "POST", headers: {...json, ...authorization}, body: run})),
    await said(fetch(create, {method: "POST", mode: "no-cors", body: new Blob([run])})),
    await said(fetch(`${api}/admin/version`, {headers: authorization})),
    await socket,
  ];
})
"""


class Served:
    """Runs `python -m flows.serve` on a small pipeline in a clone; a client for its API, with the password."""

    def __init__(self, pipeline: Any, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(pipeline.folder, folder)
        for name in ("captchabench", "flows"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.yaml", folder)
        (folder / ".gitignore").write_text("__pycache__/\n/.prefect/\n/ran.txt\n/out/\n")
        self.git("add", "-A")
        self.git("commit", "-qm", "as it begins")
        self.port = two_free_ports()
        self.address, self.page = (f"http://127.0.0.1:{port}" for port in (self.port, self.port + 1))
        self.said: list[str] = []

    def __enter__(self) -> "Served":
        person = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        own = {"PYTHONPATH": str(self.folder), "PREFECT_HOME": str(self.folder / ".prefect"), **person}
        words = ("--port", str(self.port), "--cron", "0 0 1 1 *", "--commit-to", "results")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.serve", *words],
            cwd=self.folder,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        await_that(lambda: any(line.startswith("UI: ") for line in self.said) or self._process.poll() is not None)
        assert self._process.poll() is None, self.said
        self.password = (self.folder / f".prefect/password-{self.port}").read_text()
        who = httpx.BasicAuth(*self.password.split(":"))
        self._client = httpx.Client(base_url=f"{self.address}/api/", auth=who, trust_env=False, timeout=60)
        token = self._client.get("csrf-token?client=test").json()["token"]
        self._client.headers.update({"prefect-csrf-token": token, "prefect-csrf-client": "test"})
        await_that(lambda: len(self.post("deployments/filter", {})) == 2)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(60)

    def post(self, path: str, value: object) -> Any:
        # Prefect's database may be busy. Its client tries again as well.
        while (answered := self._client.post(path, json=value)).status_code == 503:
            time.sleep(0.5)
        return answered.raise_for_status().json()

    def start(self, **more: object) -> str:
        """Start a run of `nightly` and return its id."""
        nightly = self.post("deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})[0]["id"]
        asked = {"state": {"type": "SCHEDULED"}, **more}
        return str(self.post(f"deployments/{nightly}/create_flow_run", asked)["id"])

    def runs(self) -> dict[str, Any]:
        """All runs that were requested, in any state, without those that the cron schedule will start."""
        result = self.post("flow_runs/filter", {"flow_runs": {"tags": {"is_null_": True}}})
        return {run["id"]: run["state"] for run in result}

    def await_end(self, run: str) -> Any:
        """Wait for the end of a run and return its state."""
        while (state := self.runs()[run])["type"] not in ENDED:
            time.sleep(0.5)
        return state

    def git(self, *words: str) -> str:
        own = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(["git", *own, *words], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def _listen(self) -> None:
        assert self._process.stdout
        self.said.extend(self._process.stdout)


@pytest.fixture(scope="module")
def served(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(first, tmp_path_factory.mktemp("served") / "clone") as started:
        yield started


def two_free_ports() -> int:
    """A free port whose successor is free as well."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
            port = int(first.getsockname()[1])
            if second.connect_ex(("127.0.0.1", port + 1)) != 0 and port < 65000:
                return port


@pytest.fixture(scope="module")
def evil_site() -> Iterator[str]:
    """A page of another site. Browsers resolve names under `localhost` to this machine."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a harmless page")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://evil.localhost:{site.server_port}/"
        site.shutdown()


def go(browser: Browser, address: str, text: str) -> None:
    """Open an address and wait until the page, or the one it redirects to, shows a text."""
    browser.call("Page.navigate", url=address)
    see(browser, f"document.body?.innerText.includes({json.dumps(text)})")


def see(browser: Browser, condition: str) -> None:
    """Wait until a condition holds, across changes of the page."""

    def holds() -> bool:
        # The page has just changed.
        with suppress(AssertionError):
            return browser.evaluate(condition) is True
        return False

    await_that(holds)


def attack(browser: Browser, served: Served, api: str) -> Any:
    """The result of each attempt of a page."""
    nightly = served.post("deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})[0]["id"]
    words = f"{json.dumps(api)}, {json.dumps(served.password)}"
    return browser.evaluate(f"{ATTACK.replace('NIGHTLY', nightly)}({words})")


def test_a_page_of_another_site_can_do_nothing(served: Served, browser: Browser, evil_site: str) -> None:
    before = served.runs()
    go(browser, evil_site, "a harmless page")
    assert attack(browser, served, f"{served.address}/api") == ["none"] * 5
    assert served.runs() == before


def test_dns_rebinding_can_do_nothing(served: Served, browser: Browser) -> None:
    before = served.runs()
    go(browser, f"http://evil.localhost:{served.port}/", "this server only answers as")
    api = f"http://evil.localhost:{served.port}/api"
    assert attack(browser, served, api) == [403, 403, 403, 403, "none"]
    assert served.runs() == before


def click(browser: Browser, text: str) -> None:
    """Click on the element with that text, by mouse events."""
    result = f"[...document.querySelectorAll('a, button, [role=menuitem]')].find(e => e.innerText.trim() === '{text}')"
    see(browser, f"{result}?.getBoundingClientRect().width > 0")
    x, y = browser.evaluate(
        f"(() => {{ const r = {result}.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def test_with_the_password_a_user_signs_in_and_starts_a_run(served: Served, browser: Browser) -> None:
    before = served.runs().keys()
    browser.requests.clear()
    go(browser, f"{served.address}/sign-in#captchabench:guess", "not the current password")
    for broken in ("%E0%A4%A", "%E2%82%AC", "guess"):
        go(browser, f"{served.address}/sign-in#{broken}", "This link was used")
    assert browser.evaluate("localStorage.length") == 0
    gates = [p for p in psutil.Process(served._process.pid).children(recursive=True) if "flows.gate" in p.cmdline()]
    (code,) = {gate.environ().get(CODE) for gate in gates} - {None}
    go(browser, f"{served.address}/sign-in#{code}", "Deployments")
    # The link is now in the browser's history, where it is useless.
    assert httpx.post(f"{served.address}/sign-in", content=code, trust_env=False).status_code == 403
    assert served.password not in browser.evaluate("location.href")
    go(browser, f"{served.address}/v2/deployments", "nightly")
    for text in ("nightly", "Run", "Quick run"):
        click(browser, text)
    await_that(lambda: len(served.runs().keys() - before) == 1)
    (run,) = served.runs().keys() - before
    state = served.await_end(run)
    assert state["type"] == "COMPLETED", state
    # Prefect's pages would report clicks to its makers.
    assert not [address for address in browser.requests if not address.startswith((served.address, "data:", "blob:"))]


def test_callers_cannot_change_what_is_fixed_at_the_start(served: Served, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text(EVIL)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    refused = served.start(parameters={"root": str(tmp_path), "only": None})
    wish = {"CAPTCHABENCH_COMMIT_TO": "stolen", "CAPTCHABENCH_WORKERS": "tcp://192.0.2.1:8786"}
    (served.folder / "params.yaml").write_text("cells: [a, b]\nsizes: {a: 2, b: 1}\n")
    served.git("commit", "-qam", "other parameters")
    taken = served.start(job_variables={"env": wish})
    assert served.await_end(refused)["type"] == "CRASHED"
    assert not (tmp_path / "ran").exists()
    state = served.await_end(taken)
    assert state["type"] == "COMPLETED", state
    assert served.git("branch", "--format", "%(refname:short)").split()[-1] == "results"
    assert "stolen" not in served.git("branch")


@pytest.mark.parametrize("path", ["/index.html", "/", "/cost.csv", "/../dvc.yaml", "/index.html/", "//etc/passwd"])
def test_the_page_is_the_only_file_that_is_served(served: Served, path: str) -> None:
    reports = served.folder / "reports"
    reports.mkdir(exist_ok=True)
    for name in ("index.html", "cost.csv"):
        (reports / name).write_text(f"this is {name}")
    with socket.create_connection(("127.0.0.1", served.port + 1)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port + 1}\r\n\r\n".encode())
        answer = raw.makefile("rb").read()
    if path in ("/index.html", "/"):
        assert answer.endswith(b"this is index.html")
    else:
        assert answer.startswith(b"HTTP/1.0 404")


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1"])
def test_the_page_is_served_under_no_other_name(served: Served, host: str) -> None:
    assert httpx.get(f"{served.page}/index.html", headers={"host": host}, trust_env=False).status_code == 403


def test_the_password_is_shown_on_a_terminal_and_nowhere_else(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = Server("http://127.0.0.1:4200", "captchabench:x", "once", threading.Thread(), [])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "http://127.0.0.1:4200/sign-in#once " in serve._sign_in_line(own, tmp_path)
    assert not any(served.password.partition(":")[2] in line for line in served.said)
    assert any(line.strip().endswith(f".prefect/password-{served.port}") for line in served.said)
