"""Which failures are transient, and the reason that is shown for each."""

import pytest

from flows.failures import failure_of
from flows.process import Ended

DVC = "ERROR: failed to reproduce 'train@a': failed to run: python -m stages.train a, exited with {}"


@pytest.mark.parametrize(
    ("lines", "code", "reason", "transient"),
    [
        (["error: models.crnn.steps: must be at least 1; is 0", DVC.format(1)], 255, "models.crnn.steps: must", False),
        (["torch.OutOfMemoryError: CUDA out of memory. Tried", DVC.format(1)], 255, "the GPU's memory was full", True),
        (["requests.exceptions.ConnectionError: x", DVC.format(1)], 255, "the network failed", True),
        (["ERROR: 'data/a' is busy, it is being blocked by:"], 255, "DVC's lock was taken", True),
        ([DVC.format(-9)], 255, "killed by SIGKILL", True),
        ([DVC.format(137)], 255, "killed by SIGKILL", True),
        ([], 137, "killed by SIGKILL", True),
        (["Traceback (most recent call last):", "ValueError: no", DVC.format(1)], 255, "ValueError: no", False),
        (["ERROR: unable to read: 'dvc.yaml'"], 255, "unable to read: 'dvc.yaml'", False),
        (["hm"], 3, "exit code 3", False),
        (["working"], None, "not done after 60 s", False),
    ],
)
def test_failures_are_classified(lines: list[str], code: int | None, reason: str, transient: bool) -> None:
    failure = failure_of("train@a", Ended(code, tuple(lines)), 60.0)
    assert failure is not None
    assert failure.reason.startswith(reason)
    assert failure.transient == transient
    assert str(failure).startswith("train@a: ")


def test_success_is_none() -> None:
    assert failure_of("train@a", Ended(0, ("error: printed and fixed",)), 60.0) is None
