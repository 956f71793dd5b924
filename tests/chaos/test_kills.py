"""Kills of a small pipeline. `python -m tests.chaos.kills` is the long version."""

import sys
from pathlib import Path

import pytest

from tests.chaos.kills import Way, kills, table
from tests.chaos.repository import Repository

pytestmark = pytest.mark.skipif(
    not Path(f"/proc/self/task/{Path('/proc/self').readlink()}/children").exists(),
    reason="looks for processes in /proc",
)
# The same results without DVC, which is faster.
DIRECTLY = "\n".join(f"{sys.executable} -m stages.small {words}" for words in ("a", "b", "table a b"))


def test_three_kills_change_nothing(small: Repository) -> None:
    command = (sys.executable, "-m", "flows.local")
    targets = ("stage", "DVC", "everything", "flow")
    way = Way(command, ("sh", "-ec", DIRECTLY), targets, latest_seconds=0.5, latest_event=2)
    account = kills(small, way, wanted=3, seed=0, lanes=1)
    assert account.problems == []
    assert account.kills.total() == 3
    assert account.cycles
    assert len(table(account).splitlines()) >= 3
