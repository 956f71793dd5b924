"""Stages end with the DVC process above them, with or without a shell between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")

STAGE = """
import os, time
from captchabench.orphans import end_with_dvc
end_with_dvc()
print(os.getpid(), flush=True)
time.sleep(60)
"""
# Stands in for DVC: it starts a stage through a shell, which then runs a second command, and waits.
DVC = """
import subprocess, sys
subprocess.run(["/bin/sh", "-c", f"{sys.executable} -c '{sys.argv[1]}'; {sys.argv[2]}"])
"""


def ends(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("after", ["", "true"], ids=["the shell makes way", "the shell waits"])
def test_a_stage_ends_with_the_process_that_started_it(after: str) -> None:
    argv = [sys.executable, "-c", DVC, STAGE, after]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as dvc:
        assert dvc.stdout
        stage = int(dvc.stdout.readline())
        assert Path(f"/proc/{stage}").exists()
        dvc.send_signal(signal.SIGKILL)
        assert ends(stage)


def test_a_stage_whose_dvc_died_before_it_started_watching_ends_at_once() -> None:
    # With a subreaper the process gets that as its parent and not process 1. Then this test checks nothing.
    late = f"import os, time; time.sleep(0.3)\nif os.getppid() > 1: raise SystemExit{STAGE}"
    argv = [
        sys.executable,
        "-c",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])",
        late,
    ]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    assert done.stdout == ""
