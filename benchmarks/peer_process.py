"""A peer's environment, made from pinned versions, and the process that reads images in it."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import peer_worker
from benchmarks.results import say
from captchabench.errors import InputError, visible
from captchabench.storage.files import write_text

_FOLDER = Path(__file__).resolve().parent
# Git ignores it.
CACHE = _FOLDER.parent / ".peers"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def peer_environment(package: str) -> Path:
    """The folder of the environment that has `package`, made if it is missing, incomplete or of other versions.

    The versions are those of `peers-PACKAGE.txt`. uv makes it if there is one, else venv and pip. Raises InputError if
    the packages cannot be installed.
    """
    requirements = _FOLDER / f"peers-{package}.txt"
    folder = CACHE / package
    complete = folder / "complete"
    made_of = sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists() or complete.read_text(encoding="utf-8") != made_of:
            shutil.rmtree(folder, ignore_errors=True)
            _install(package, requirements, folder)
            write_text(complete, made_of)
    return folder


def _install(package: str, requirements: Path, folder: Path) -> None:
    python = str(folder / "bin" / "python")
    pinned = ["--quiet", "--require-hashes", "--requirement", str(requirements)]
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        install = [uv, "pip", "install", "--python", python, *pinned]
    else:
        make = [sys.executable, "-m", "venv", str(folder)]
        install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "2", *pinned]
    say(f"{package}: installing it into {folder} (once; a minute or so)")
    for command in (make, install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = visible(_error_line(done.stderr) or f"exit code {done.returncode}", 300)
            raise InputError(
                f"{package}: cannot be installed ({reason}); it comes from the package index: "
                "check the network, then run this again"
            )


def _error_line(output: str) -> str:
    """The line of an installer's output that says what is wrong: the last error, or the last line of all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or [""])[-1]


class Answer(NamedTuple):
    """What a peer read in one image, in how many seconds of CPU time. failed: it raised, so the text is empty."""

    text: str
    seconds: float
    failed: bool


class PeerProcess:
    """A running peer. version: of its package. bytes: of its weights."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", stderr: Any) -> None:
        self._name = name
        self._process = process
        self._stderr = stderr
        loaded = self._line()
        self.version: str = loaded["version"]
        self.bytes: int = loaded["bytes"]

    def read(self, encoded: bytes) -> Answer:
        """What the peer reads in one encoded image. Raises InputError if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"image": base64.b64encode(encoded).decode()}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return Answer(**self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> InputError:
        code = self._process.wait()
        self._stderr.seek(0)
        reason = _error_line(self._stderr.read()) or "it printed nothing"
        folder = CACHE / peer_worker.PEERS[peer_worker.Name(self._name)].package
        return InputError(
            f"{self._name}: its process ended with exit code {code} ({visible(reason, 300)}); "
            f"remove {folder} and run this again"
        )


@contextmanager
def running_peer(name: str, environment: Path) -> Iterator[PeerProcess]:
    """Start the peer called `name` in its environment; end it afterwards. Raises InputError if it cannot be loaded."""
    # Isolated from this environment's variables and from the modules of this folder.
    command = [str(environment / "bin" / "python"), "-I", peer_worker.__file__, name]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            env={**os.environ, **_ONE_THREAD},
        ) as process,
    ):
        try:
            yield PeerProcess(name, process, stderr)
        finally:
            process.kill()
            # It may have ended before it read everything.
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
