"""Drives a page of headless Chromium over a pipe, which needs no driver and no port."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)


# Clickable elements lower than a given height. For a control inside a label, the label counts.
SMALL = """(least => [...document.querySelectorAll("a, button, input, select, summary, label")].filter(element => {
  const target = element.closest("label") ?? element;
  const height = target.getBoundingClientRect().height;
  return element.id !== "files" && element.checkVisibility() && height < least;
}).map(element => element.outerHTML))(%d)"""


_HANG_SECONDS = 240


class Browser:
    """One tab.

    problems: errors and warnings of the console. requests: the URLs requested. events: the latest event of each kind.
    """

    def __init__(self, program: str, profile: Path) -> None:
        # Chromium reads commands from file descriptor 3 and answers on 4.
        commands, answers = os.pipe(), os.pipe()
        inherited = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (commands[0], answers[1])]

        def move_descriptors() -> None:
            os.dup2(inherited[0], 3)
            os.dup2(inherited[1], 4)

        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=move_descriptors,
        )
        for fd in (commands[0], answers[1], *inherited):
            os.close(fd)
        self._in, self._out = commands[1], answers[0]
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.events: dict[str, dict[str, Any]] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def open(self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file or a URL and wait until the page marks itself as drawn."""
        # An earlier page may still report problems while this one loads.
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.problems.clear()
        self.requests.clear()
        self.events.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        self.wait("document.body?.dataset.ready === 'drawn'")

    def evaluate(self, script: str) -> Any:
        """The value of a script; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a condition holds. Fails after far more time than any page takes on a busy machine."""
        end = f"const end = Date.now() + {1000 * _HANG_SECONDS}"
        poll = f"const poll = () => {condition} ? done(true) : Date.now() > end ? done(false) : setTimeout(poll, 20)"
        assert self.evaluate(f"new Promise(done => {{ {end}; {poll}; poll(); }})"), f"never true: {condition}"

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Save the visible part, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._in)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = os.read(self._out, 1 << 20)
            assert received, "Chromium ended"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        self.events[str(event.get("method"))] = params
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert", "warning"):
                self.problems.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"]["text"])


def _runs(program: str) -> bool:
    """Whether the program starts: on some systems `chromium` only prints how to install it."""
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A tab of Chromium. Tests that need it are skipped if it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    program = next(filter(_runs, filter(None, map(shutil.which, names))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
