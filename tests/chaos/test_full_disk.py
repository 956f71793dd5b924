"""Each write of a small stage fails in turn. `python -m tests.chaos.full_disk` does this for the whole benchmark."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.faults import Disk, build, compiler
from tests.chaos.repository import Repository, differences

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not compiler(), reason="needs Linux and a C compiler")


def attempt(repository: Repository, disk: Disk) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.small", "a"],
        cwd=repository.folder,
        env={**repository.environment, **disk.environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_failing_write_is_one_line_and_the_next_run_is_right(small: Repository, tmp_path: Path) -> None:
    disk = Disk(build(tmp_path), small.folder, tmp_path / "calls")
    assert attempt(small, disk).returncode == 0
    wanted, calls = small.results(), disk.calls()
    assert set(wanted) == {"metrics/a.txt", "data/models/a/weights"}
    assert {"mkdir", "rename", "write"} <= {call.call for call in calls}
    failed = 0
    for call in calls:
        # One write, or all from it on.
        disk.fail(call.number, on=call.number % 2 == 0, error=errno.EIO if call.number % 3 == 0 else errno.ENOSPC)
        done = attempt(small, disk)
        assert disk.failed()
        # The old outputs are still there.
        assert differences(small.results(), wanted) == [], call
        assert small.leftovers() == [], call
        if done.returncode:
            failed += 1
            assert done.stderr.startswith("error: "), call
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert "cannot be written" in done.stderr, call
    disk.work()
    assert attempt(small, disk).returncode == 0
    assert differences(small.results(), wanted) == []
    # The only calls that may fail without an effect are those that make folders which exist.
    assert failed >= len(calls) - sum(call.call == "mkdir" for call in calls)
