"""Runs a command, and kills it and all processes that it started when the process that started this one ends.

Called as `leash.py CORES COMMAND...` in a new session; CORES are numbers separated by commas. Standard input is a pipe
to which nothing is written: end of file means that the process at the other end has died. Imports nothing of the
project, so that it starts fast.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command; return its exit code, 128 plus the number for a signal, as shells do."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in sys.argv[1].split(",")])
    threading.Thread(target=_kill_group_at_eof, daemon=True).start()
    # close_fds=False: the command inherits the run lock, which is then held until it has ended.
    code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL, close_fds=False)
    return code if code >= 0 else 128 - code


def _kill_group_at_eof() -> None:
    os.read(0, 1)
    # SIGKILL is safe: outputs are written whole or not at all.
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
