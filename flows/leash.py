"""Run a command, and end it and all that it started as soon as whoever started this is gone, however it went.

Called as `leash.py CORES COMMAND...` in a session of its own; CORES are numbers with commas between them. Standard
input is a pipe that nobody writes to: its end means that the process at the other end has died. Imports nothing of
ours, so that it starts in a moment.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command; return its exit code, 128 and more for a signal, as shells do."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in sys.argv[1].split(",")])
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    # close_fds=False: a lock that was handed down stays taken until the command has ended, too.
    code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL, close_fds=False)
    return code if code >= 0 else 128 - code


def _end_with_the_other() -> None:
    os.read(0, 1)
    # Outputs are written whole or not at all, so there is nothing to wait for.
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
