"""The harness that kills benchmarks, on a small pipeline: `python -m tests.chaos.kills` is the long version."""

import sys
from pathlib import Path

import pytest

from tests.chaos.kills import Way, kills, table
from tests.chaos.repository import Repository

pytestmark = pytest.mark.skipif(
    not Path(f"/proc/self/task/{Path('/proc/self').readlink()}/children").exists(),
    reason="looks for processes in /proc",
)
REPRO = f"{sys.executable} -m flows.recovery && exec {sys.executable} -m dvc repro"
# The same results without DVC, in less time.
DIRECTLY = "\n".join(f"{sys.executable} -m stages.small {words}" for words in ("a", "b", "table a b"))


def test_two_kills_change_nothing(small: Repository) -> None:
    way = Way(
        ("sh", "-c", REPRO), ("sh", "-ec", DIRECTLY), ("stage", "DVC", "everything"), latest_seconds=0.5, latest_event=2
    )
    account = kills(small, way, wanted=2, seed=0, lanes=1)
    assert account.problems == []
    assert account.kills.total() == 2
    assert account.cycles
    assert len(table(account).splitlines()) >= 3
