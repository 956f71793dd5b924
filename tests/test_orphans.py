"""Processes that end with the DVC above them, whatever stands between."""

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
# Stands in for DVC: it starts a stage, by a shell that does something after it, and waits.
DVC = """
import subprocess, sys
subprocess.run(["/bin/sh", "-c", f"{sys.executable} -c '{sys.argv[1]}'; {sys.argv[2]}"])
"""


def ends(number: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not Path(f"/proc/{number}").exists():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("after", ["", "true"], ids=["the shell makes way", "the shell waits"])
def test_a_stage_ends_with_the_process_that_started_it(after: str) -> None:
    words = [sys.executable, "-c", DVC, STAGE, after]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as dvc:
        assert dvc.stdout
        stage = int(dvc.stdout.readline())
        assert Path(f"/proc/{stage}").exists()
        dvc.send_signal(signal.SIGKILL)
        assert ends(stage)


def test_a_stage_whose_dvc_died_before_it_looked_ends_at_once() -> None:
    # Whoever adopts it where that is not the first process is not known from here.
    late = f"import os, time; time.sleep(0.3)\nif os.getppid() > 1: raise SystemExit{STAGE}"
    words = [
        sys.executable,
        "-c",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])",
        late,
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    assert done.stdout == ""
