"""Processes that must not outlive the one that they work for."""

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
    """Have this process killed when the DVC above it ends, however that went. Does nothing but on Linux.

    A shell between the two, which some machines have there and others not, would live on: so what is above it is
    watched, by a thread.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    above = _above_shells()
    # Adopted: DVC ended while Python started. In a container DVC itself may be the first process.
    if above <= 1 and b"dvc" not in Path("/proc/1/cmdline").read_bytes():
        _end()
    threading.Thread(target=_await, args=(above,), daemon=True).start()


def end_with_parent() -> None:
    """Have this process, which `multiprocessing` started, end when the one that asked for it does, however it went."""
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    # Not the server that forked this one: that ends when its last worker does.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _above_shells() -> int:
    """The number of the nearest process above this one that is no shell; 0 where there is none."""
    number = os.getppid()
    while number > 0:
        # Its name stands in brackets, and may have blanks and brackets itself.
        head, _, rest = Path(f"/proc/{number}/stat").read_text().rpartition(")")
        if head.partition("(")[2] not in _SHELLS:
            break
        number = int(rest.split()[1])
    return number


def _await(number: int) -> None:
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        _end()
    except OSError:
        # A kernel before 5.3.
        return
    select.select([handle], [], [])
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
