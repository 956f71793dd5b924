"""A small DVC pipeline in a temporary repository, whose stages run the code that a test gives them."""

import os
import shutil
import tempfile
from pathlib import Path

# Set before Prefect is imported, so that tests write nothing into the project.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-")
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
# Many tests need a server, but few need a server of their own.
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
# Tests must not fail on a busy machine.
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

STAGE = """
import os, pathlib, sys, time
name = sys.argv[1]
print("cores", len(os.sched_getaffinity(0)), "threads", os.environ.get("OMP_NUM_THREADS"), flush=True)
with open("ran.txt", "a") as log:
    log.write(f"{name}\\n")
orders = pathlib.Path(os.environ.get("ORDERS", "orders"), f"{name}.py")
if orders.exists():
    exec(orders.read_text())
folder = pathlib.Path("out")
folder.mkdir(exist_ok=True)
(folder / name).write_text("".join(pathlib.Path(path).read_text() for path in sys.argv[2:]) + name)
if "DONE" in os.environ:
    with open(os.environ["DONE"], "a") as log:
        log.write(f"{name}\\n")
"""

PIPELINE = """
stages:
  make:
    matrix: {cell: "${cells}"}
    cmd: python stage.py make-${item.cell}
    deps: [stage.py]
    params: ["sizes.${item.cell}"]
    outs: ["out/make-${item.cell}"]
  read:
    matrix: {cell: "${cells}"}
    cmd: python stage.py read-${item.cell} out/make-${item.cell}
    meta: {gpus: 1, time_limit: 600}
    deps: [stage.py, "out/make-${item.cell}"]
    outs: [{"out/read-${item.cell}": {cache: false}}]
  table:
    cmd: python stage.py table out/read-a out/read-b
    deps: ["out/read-a", "out/read-b"]
    outs: [out/table]
"""

PARAMS = "cells: [a, b]\nsizes: {a: 1, b: 1}\n"


class Pipeline:
    """make@a, make@b, then read@a, read@b, then table. Each appends its name to ran.txt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("stage.py", STAGE)
        self.write("dvc.yaml", PIPELINE)
        self.write("params.yaml", PARAMS)
        self.call("git", "init", "-q")
        self.dvc("init", "-q")
        self.dvc("config", "core.analytics", "false")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def order(self, name: str, code: str) -> None:
        """Let the stage's command run `code`, without a change that DVC sees."""
        self.write(f"orders/{name}.py", code)

    def ran(self) -> list[str]:
        """The stages that ran since the last call."""
        path = self.folder / "ran.txt"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def call(self, *command: str) -> str:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def dvc(self, *words: str) -> str:
        return self.call(sys.executable, "-m", "dvc", *words)


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A pipeline that has not run yet, for tests to copy."""
    return Pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def pipeline(first: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of the pipeline that has not run yet."""
    shutil.copytree(first.folder, tmp_path / "own")
    made = object.__new__(Pipeline)
    made.folder = tmp_path / "own"
    return made


@pytest.fixture(scope="session", autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    # Prefect's server would log its end into a closed stream.
    if server := sys.modules.get("prefect.server.api.server"):
        server.SubprocessASGIServer().stop()
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)
