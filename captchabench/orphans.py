"""Ends child processes when the process that they work for ends."""

import ctypes
import multiprocessing
import os
import select
import signal
import sys
import threading
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SHELLS = {"sh", "ash", "bash", "dash", "fish", "ksh", "zsh"}


def end_with_dvc() -> None:
    """Arrange for this process to be killed when the DVC process above it ends for any reason. Linux only.

    On some machines a shell runs between the two, and it survives DVC. So a thread watches the nearest ancestor that
    is not a shell.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    ancestor = _nearest_ancestor()
    # Reparented to init: DVC ended while Python started. In a container DVC itself may be process 1.
    if ancestor <= 1 and b"dvc" not in Path("/proc/1/cmdline").read_bytes():
        _kill_self()
    threading.Thread(target=_kill_self_after, args=(ancestor,), daemon=True).start()


def end_with_parent() -> None:
    """Arrange for this process, started by `multiprocessing`, to exit when its parent ends for any reason."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    # This is the process that created the pool, not the fork server, which ends after its last worker.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _nearest_ancestor() -> int:
    """The PID of the nearest ancestor that is not a shell; 0 if there is none."""
    pid = os.getppid()
    while pid > 0:
        # The process name stands in parentheses and may itself contain blanks and parentheses.
        head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        if head.partition("(")[2] not in _SHELLS:
            break
        pid = int(rest.split()[1])
    return pid


def _kill_self_after(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        _kill_self()
    except OSError:
        # Kernels before 5.3 have no pidfd.
        return
    select.select([pidfd], [], [])
    _kill_self()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
