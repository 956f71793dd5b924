"""A command and its descendants, polled often and cheaply."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

_RUNNING = re.compile(rb"Running stage '([^'@]+)")
# The role of a process, by its command line. The first match counts.
_ROLES = {
    "stage": re.compile(r"-m stages\.\w+"),
    "recovery": re.compile(r"flows\.recovery"),
    "server": re.compile(r"flows\.gate"),
    "DVC": re.compile(r"\bdvc repro|flows\.dvc_stage"),
    "flow": re.compile(r"flows\.(run|local)"),
    "leaderboard": re.compile(r"captchabench leaderboard"),
    "make": re.compile(r"^make "),
}


class Tree:
    """The descendants of a process, and its output. ended: stage processes that were seen and are gone.

    logs: the files of the output, which may not exist yet.
    """

    def __init__(self, root: int, logs: Sequence[Path]) -> None:
        self.root, self.output, self.ended = root, b"", 0
        self._logs = dict.fromkeys(logs, 0)
        self._roles: dict[int, str] = {}
        self._stages: set[int] = set()

    def alive(self) -> bool:
        """Whether the command is still running."""
        return _state(self.root) not in ("", "Z")

    def look(self) -> None:
        """Read the new output and list the running processes."""
        for log, seen in self._logs.items():
            if log.exists():
                with log.open("rb") as file:
                    file.seek(seen)
                    new = file.read()
                self.output += new
                self._logs[log] += len(new)
        result: dict[int, str] = {}
        self._descend(self.root, result)
        stages = {number for number, role in result.items() if role == "stage"}
        self.ended += len(self._stages - stages)
        self._stages = stages
        self._roles = result

    def where(self) -> str:
        """What is running: the kind of stage, or another program."""
        roles = set(self._roles.values())
        begun = _RUNNING.findall(self.output)
        if "stage" in roles:
            return begun[-1].decode() if begun else "a stage"
        if "recovery" in roles or "leaderboard" in roles:
            return "recovery" if "recovery" in roles else "leaderboard command"
        if "DVC" in roles:
            return "DVC after a stage" if begun else "DVC before any stage"
        return "flow" if "flow" in roles else "make"

    def kill(self, target: str, number: signal.Signals) -> str | None:
        """Send a signal to one kind of process, or to `everything`. Returns its kind, or None if there is none.

        If there is no process of that kind, the one that does the work gets the signal.
        """
        for role in (target, "DVC", "recovery", "leaderboard", "flow"):
            victims = [one for one, kind in self._roles.items() if kind == role or role == "everything"]
            if met := [one for one in victims[:1] if target != "everything"] or victims:
                sent = [_send(one, number) for one in met]
                if any(sent):
                    return role
        return None

    def kill_all(self) -> None:
        """Kill all processes."""
        self.look()
        for one in self._roles:
            _send(one, signal.SIGKILL)

    def _descend(self, number: int, result: dict[int, str]) -> None:
        # A process's role may change by exec.
        if (line := _command(number)) is None:
            return
        result[number] = next((role for role, word in _ROLES.items() if word.search(line)), "other")
        try:
            threads = [entry.name for entry in Path(f"/proc/{number}/task").iterdir()]
        except OSError:
            return
        for thread in threads:
            try:
                children = Path(f"/proc/{number}/task/{thread}/children").read_text()
            except OSError:
                continue
            for child in children.split():
                self._descend(int(child), result)


def _command(number: int) -> str | None:
    """The command line of a process, None if it is gone."""
    try:
        line = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return None
    return line.replace(b"\0", b" ").decode(errors="replace") if line else None


def _state(number: int) -> str:
    """The state of a process as the kernel names it; empty if it is gone."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def _send(number: int, what: signal.Signals) -> bool:
    try:
        os.kill(number, what)
    except ProcessLookupError:
        return False
    return True
