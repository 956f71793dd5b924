"""Kill the benchmark repeatedly at random moments. Its final results must equal those of an undisturbed run."""

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.local import LOG
from tests.chaos.processes import Tree
from tests.chaos.repository import Repository, differences, run

# Lines that announce what DVC does next, and the milliseconds after each in which it is done.
_MOMENTS = {
    "a stage begins": (re.compile(rb"Running stage '"), 600),
    "a stage has ended": (None, 400),
    "dvc.lock is written": (re.compile(rb"(Updating|Generating) lock file"), 60),
    "a training is under way": (re.compile(rb"Running stage 'train"), 9000),
}
_SOONEST_SECONDS = 0.2
_POLL_SECONDS = 0.004
# After a kill: until the command ends, unless it survives; until all its processes are gone.
_SURVIVES_SECONDS, _GONE_SECONDS = 3.0, 5.0
_HANG_SECONDS = 900.0
_ENOUGH_PROBLEMS = 20
_MESSAGES = {
    "dvc.lock truncated": re.compile(r"dvc\.lock was truncated"),
    "stale list of files in use": re.compile(r"files in use had entries"),
    "temporary files of DVC swept": re.compile(r"temporary files that DVC left"),
    "training goes on from a checkpoint": re.compile(r"resuming after step"),
    "checkpoint set aside": re.compile(r"training starts from the beginning"),
}


@dataclass(frozen=True)
class Way:
    """How a benchmark is run, and which of its processes may be killed. quietly: the command without kills.

    latest_seconds, latest_event: limits of the random moments.
    """

    command: tuple[str, ...]
    quietly: tuple[str, ...]
    targets: tuple[str, ...]
    latest_seconds: float = 14.0
    latest_event: int = 4


_MAKE = ("make", "-o", "setup", "repro")
MAKE = Way(_MAKE, _MAKE, ("stage", "DVC", "everything", "flow"))
FLOW = Way((sys.executable, "-m", "flows.run"), _MAKE, ("stage", "DVC", "everything", "flow", "server"))


@dataclass
class Account:
    """The results of all lanes. wanted: number of kills."""

    wanted: int
    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)
    cycles: int = 0
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def more(self) -> bool:
        """Whether more kills are wanted."""
        return self.kills.total() < self.wanted and not self.hopeless()

    def hopeless(self) -> bool:
        """Whether there are so many problems that more kills would show nothing new."""
        return len(self.problems) >= _ENOUGH_PROBLEMS


class Lane:
    """Kills runs in one repository at a time until the number of kills is reached."""

    def __init__(self, name: str, folder: Path, way: Way, account: Account, seed: str) -> None:
        self.name, self.folder, self.way, self.account = name, folder, way, account
        self.random = random.Random(seed)

    def work(self, template: Repository, wanted: Mapping[str, str]) -> None:
        """Run cycles until no more kills are wanted."""
        while self.account.more():
            place = self.folder / f"{self.name}-{self.account.cycles}"
            self.cycle(template.copy(place), wanted)
            shutil.rmtree(place)
            shutil.rmtree(place.with_name(f"{place.name}.site"), ignore_errors=True)

    def cycle(self, repository: Repository, wanted: Mapping[str, str]) -> None:
        """Run an empty repository to the end, with kills on the way, and compare the results."""
        while not self.attempt(repository):
            if self.account.hopeless():
                return
        time.sleep(0.5)
        problems = [f"differs: {path}" for path in differences(repository.results(), wanted)]
        problems += [f"left behind: {path}" for path in repository.leftovers()]
        problems += [f"still running: {line}" for line in repository.processes().values()]
        problems += [f"stale: {stage}" for stage in repository.status()]
        with self.account.lock:
            self.account.cycles += 1
            self.account.problems += [f"{self.name}: {problem}" for problem in problems]
            print(
                f"{self.name}: ended after {self.account.kills.total()} kills of all lanes, {problems or 'as wanted'}",
                flush=True,
            )

    def attempt(self, repository: Repository) -> bool:
        """Start the command and kill one of its processes. Returns whether it ended by itself without errors.

        A command that survives a kill, as a flow that lost a stage does, is killed again.
        """
        log = self.folder / f"{self.name}.log"
        said = repository.folder / LOG
        said.unlink(missing_ok=True)
        process = run(self.way.command, repository, log)
        tree = Tree(process.pid, [log, said])
        killed = False
        while self.account.more() and process.poll() is None:
            killed = self._kill_something(tree) or killed
            _await_end(process, _SURVIVES_SECONDS)
        _await_end(process, _HANG_SECONDS)
        hung = process.poll() is None
        if hung:
            tree.kill_all()
            process.wait()
        text = "".join(one.read_text(errors="replace") for one in (said, log) if one.exists())
        with self.account.lock:
            self.account.said.update({name: len(pattern.findall(text)) for name, pattern in _MESSAGES.items()})
            self.account.begun.update(name.partition("@")[0] for name in re.findall(r"Running stage '([^']+)'", text))
            if hung:
                self._problem(f"did not end {'after a kill' if killed else 'by itself'}", text)
            if not killed and process.returncode:
                self._problem(f"exit code {process.returncode} though nothing was killed", text)
            if "Traceback" in text and not killed:
                self._problem("a traceback", text)
            if killed and not process.returncode:
                self.account.said["runs that finished in spite of kills"] += 1
        # Half of the time the next run starts at once, while processes of the last one may still be ending.
        if killed and self.random.random() < 0.5:
            self._await_none(repository)
        return process.returncode == 0

    def _kill_something(self, tree: Tree) -> bool:
        """Wait for a random moment and kill. False if the command ended first."""
        moment = self._await_moment(tree)
        if moment is None:
            return False
        number = self.random.choice([signal.SIGKILL, signal.SIGTERM])
        where = tree.where()
        met = tree.kill(self.random.choice(self.way.targets), number)
        if met is None:
            return False
        with self.account.lock:
            self.account.kills[(where, met, number.name)] += 1
            print(f"{self.name}: {number.name} to {met}, {where} ({moment})", flush=True)
        return True

    def _await_moment(self, tree: Tree) -> str | None:
        if self.random.random() < 0.5:
            until = time.monotonic() + self.random.uniform(_SOONEST_SECONDS, self.way.latest_seconds)
            while time.monotonic() < until:
                if not tree.alive():
                    return None
                tree.look()
                time.sleep(_POLL_SECONDS)
            return "any moment"
        name = self.random.choice(list(_MOMENTS))
        pattern, milliseconds = _MOMENTS[name]
        nth = self.random.randint(1, self.way.latest_event)
        until = time.monotonic() + 2 * self.way.latest_seconds
        while (tree.ended if pattern is None else len(pattern.findall(tree.output))) < nth:
            if not tree.alive():
                return None
            # Perhaps there will be none of that kind.
            if time.monotonic() > until:
                return "any moment"
            tree.look()
            time.sleep(_POLL_SECONDS)
        time.sleep(self.random.uniform(0, min(milliseconds / 1000, self.way.latest_seconds)))
        tree.look()
        return name

    def _await_none(self, repository: Repository) -> None:
        until = time.monotonic() + _GONE_SECONDS
        while left := repository.processes():
            if time.monotonic() > until:
                with self.account.lock:
                    self._problem(f"{_GONE_SECONDS:g} s after the kill, still running: {'; '.join(left.values())}", "")
                return
            time.sleep(0.05)

    def _problem(self, what: str, text: str) -> None:
        lines = "".join(f"\n    {line}" for line in text.splitlines()[-15:])
        self.account.problems.append(f"{self.name}: {what}{lines}")
        print(f"{self.name}: PROBLEM: {what}{lines}", flush=True)


def _await_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def kills(template: Repository, way: Way, wanted: int, seed: int, lanes: int) -> Account:
    """Run a copy of `template` undisturbed, then kill runs in other copies, `lanes` in parallel."""
    folder = template.folder.parent
    undisturbed = template.copy(folder / "undisturbed")
    started = time.monotonic()
    undisturbed.call(*way.quietly)
    results = undisturbed.results()
    print(f"{len(results)} files in an undisturbed run of {time.monotonic() - started:.0f} s", flush=True)
    account = Account(wanted)
    work = [Lane(f"lane{number}", folder, way, account, f"{seed}-{number}").work for number in range(lanes)]
    threads = [threading.Thread(target=one, args=(template, results)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return account


def table(account: Account) -> str:
    """The numbers of kills, by the work that was interrupted (rows), and by target and signal (columns)."""
    columns = sorted({(met, number) for _, met, number in account.kills})
    rows = sorted({where for where, _, _ in account.kills})
    lines = [f"{'':24}" + "".join(f"{met + ' ' + number[3:]:>17}" for met, number in columns) + f"{'all':>6}"]
    for where in rows:
        counts = [account.kills[(where, *column)] for column in columns]
        lines.append(f"{where:24}" + "".join(f"{count or '':>17}" for count in counts) + f"{sum(counts):6}")
    totals = [sum(account.kills[(where, *column)] for where in rows) for column in columns]
    lines.append(f"{'all':24}" + "".join(f"{count:>17}" for count in totals) + f"{sum(totals):6}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Kill a small benchmark and compare its results. 100 kills take about half an hour with two lanes."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kills", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and targets; timing also varies")
    parser.add_argument("--lanes", type=int, default=2, help="parallel benchmarks, one per core")
    parser.add_argument("--flow", action="store_true", help="run it with flows.run, and also kill that and its server")
    given = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    template = Repository.make(folder / "template")
    account = kills(template, FLOW if given.flow else MAKE, given.kills, given.seed, given.lanes)
    print(table(account))
    for name, count in sorted(account.said.items()):
        print(f"{name}: {count}")
    print(f"stages begun: {account.begun.total()}, of them {account.begun['train']} of train")
    print(f"{account.kills.total()} kills, {account.cycles} runs to the end, {len(account.problems)} problems")
    for problem in account.problems:
        print(problem)
    if account.problems:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
