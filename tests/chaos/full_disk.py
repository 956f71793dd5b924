"""Let single writes of the benchmark fail, or all from one on. The next run must give the right results."""

import argparse
import errno
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.faults import Call, Disk, build, compiler
from tests.chaos.repository import Repository, differences

_DVC = (sys.executable, "-m", "dvc")
_MEND = (sys.executable, "-m", "flows.recovery")
_ORDER = """
from pathlib import Path
from flows.graph import read_graph
print(*(stage.name for stage in read_graph(Path()).stages))
"""
_LIMIT_SECONDS = 300
# Of the faults, those after which the whole benchmark is run to its end.
_WHOLE = 50
# The programs whose calls fail, in turn.
_WRITERS = ("stage", "DVC", "stage", "DVC", "recovery")
_OURS = re.compile(r'File "[^"]*/(captchabench|stages|flows)/')


@dataclass(frozen=True)
class Step:
    """A stage, and copies of the benchmark before and after it. calls: those of an undisturbed run."""

    stage: str
    before: Repository
    wanted: Mapping[str, str]
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Fault:
    """One run of a stage on a failing disk. on: all later calls fail as well."""

    step: Step
    call: Call
    on: bool
    error: int

    def __str__(self) -> str:
        what = f"{errno.errorcode[self.error]}{' from there on' if self.on else ''}"
        return (
            f"{self.step.stage}, call {self.call.number} of {len(self.step.calls)} ({self.call.writer}'s "
            f"{self.call.call} {self.call.path}): {what}"
        )


@dataclass
class Account:
    """The results. ends: (writer, how the run ended) -> number of faults."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def steps(folder: Path, library: Path) -> list[Step]:
    """Run the benchmark one stage at a time and count its calls. Copies of it are kept in `folder`."""
    repository = Repository.make(folder / "undisturbed")
    disk = Disk(library, repository.folder, folder / "undisturbed.calls")
    made: list[Step] = []
    for number, stage in enumerate(repository.call(sys.executable, "-c", _ORDER).split()):
        before = repository.copy(folder / f"before-{number}")
        disk.work()
        done = _attempt(repository, stage, disk)
        if done.returncode:
            raise RuntimeError(f"{stage} fails undisturbed:\n{done.stdout}")
        made.append(Step(stage, before, repository.results(), tuple(disk.calls())))
    if stale := repository.status():
        raise RuntimeError(f"stale after an undisturbed run: {', '.join(stale)}")
    return made


def sample(made: Sequence[Step], count: int, rng: random.Random) -> list[Fault]:
    """Faults spread evenly over stages, writers, calls, folders and ways to fail."""
    turns = [_kinds_in_turn(step, number, rng) for number, step in enumerate(made)]
    chosen: list[Fault] = []
    while len(chosen) < count:
        step, kinds = made[len(chosen) % len(made)], turns[len(chosen) % len(made)]
        kind = kinds[len(chosen) // len(made) % len(kinds)]
        # Three of four are a full disk. Half of all faults persist.
        error = errno.EIO if len(chosen) % 4 == 3 else errno.ENOSPC
        chosen.append(Fault(step, rng.choice(kind), bool((len(chosen) // 2) % 2), error))
    return chosen


def _kinds_in_turn(step: Step, first: int, rng: random.Random) -> list[list[Call]]:
    """The calls of a stage, grouped by writer, call and folder. Writers alternate, beginning with number `first`."""
    kinds: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    for call in step.calls:
        kinds[(call.writer, call.call, call.path.split("/")[0])].append(call)
    of = defaultdict(list)
    for (writer, *_), calls in kinds.items():
        of[writer].append(calls)
    for calls_of_writer in of.values():
        rng.shuffle(calls_of_writer)
    result: list[list[Call]] = []
    turn = first
    while any(of.values()):
        writer = _WRITERS[turn % len(_WRITERS)]
        if of[writer]:
            result.append(of[writer].pop())
        turn += 1
    return result


class Lane:
    """Tries faults one after the other in a separate folder."""

    def __init__(self, folder: Path, library: Path, account: Account, last: Mapping[str, str]) -> None:
        self.folder, self.library, self.account, self.last = folder, library, account, last

    def work(self, faults: Sequence[tuple[int, Fault]]) -> None:
        """Try each fault and record the result."""
        for number, fault in faults:
            how, problems, said = self.attempt(fault, number % _WHOLE == 0)
            with self.account.lock:
                self.account.ends[(fault.call.writer, how)] += 1
                self.account.said.update(said)
                self.account.modes[f"{errno.errorcode[fault.error]} {'on' if fault.on else 'once'}"] += 1
                self.account.problems += [f"{fault}: {problem}" for problem in problems]
                print(f"{number}: {fault}: {how}", *(f"\n    PROBLEM: {problem}" for problem in problems), flush=True)

    def attempt(self, fault: Fault, whole: bool) -> tuple[str, list[str], list[str]]:
        """How the run with the fault ended, the problems, and the lines of its errors."""
        repository = fault.step.before.copy(self.folder / "benchmark")
        try:
            before = repository.results()
            disk = Disk(self.library, repository.folder, self.folder / "calls")
            disk.fail(fault.call.number, on=fault.on, error=fault.error)
            done = _attempt(repository, fault.step.stage, disk)
            hits = disk.failed()
            problems = []
            if not hits:
                how = "not reached"
            elif done.returncode:
                how = "failed"
            else:
                how = "harmless"
                if missing := differences(repository.results(), fault.step.wanted):
                    problems.append(f"exit code 0, but wrong: {missing}")
            said = _said(done.stdout) if done.returncode else []
            if _OURS.search(done.stdout):
                problems.append(f"a traceback of ours:\n{done.stdout}")
            if done.returncode and not said:
                problems.append(f"no line says what went wrong:\n{done.stdout}")
            lost = [path for path, digest in before.items() if repository.results().get(path) != digest]
            problems += [f"an earlier output is changed: {path}" for path in lost]
            problems += self._next(repository, fault, whole)
            return how, problems, said
        finally:
            shutil.rmtree(repository.folder)
            shutil.rmtree(repository.folder.with_name("benchmark.site"), ignore_errors=True)

    def _next(self, repository: Repository, fault: Fault, whole: bool) -> list[str]:
        """The problems after the next run on a working disk."""
        done = _attempt(repository, fault.step.stage, None)
        if done.returncode:
            return [f"the next run fails:\n{done.stdout}"]
        problems = [f"differs after the next run: {p}" for p in differences(repository.results(), fault.step.wanted)]
        # A checkpoint stays until the cell's predictions are made.
        scratch = "data/scratch" if fault.step.stage.startswith("train") else ()
        problems += [f"left behind: {path}" for path in repository.leftovers() if not path.startswith(scratch)]
        problems += [f"still running: {line}" for line in repository.processes().values()]
        status = repository.call(*_DVC, "status", "--json", fault.step.stage)
        problems += [f"stale after the next run: {status}"] if status.strip() != "{}" else []
        if whole:
            repository.call("make", "-o", "setup", "repro")
            problems += [f"differs at the end: {path}" for path in differences(repository.results(), self.last)]
            problems += [f"stale at the end: {stage}" for stage in repository.status()]
        return problems


def _attempt(repository: Repository, stage: str, disk: Disk | None) -> subprocess.CompletedProcess[str]:
    """Repair and run one stage as `make repro` does; returns the output of both. disk: None for one that works."""
    environment = {**repository.environment, **(disk.environment if disk else {})}
    said = ""
    for command in (_MEND, (*_DVC, "repro", "--single-item", stage)):
        done = subprocess.run(
            command,
            cwd=repository.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        said += done.stdout
        if done.returncode:
            break
    return subprocess.CompletedProcess(command, done.returncode, said)


def _said(output: str) -> list[str]:
    """The last error lines of the stage and of DVC, with names replaced so that equal errors are equal."""
    lines = [line for line in output.splitlines() if re.match(r"(error|ERROR): |OSError|PermissionError", line)]
    return [re.sub(r"'[^']*'|[\w./@-]*/[\w./@-]*|\w+-\w+-\d", "...", line) for line in lines]


def full_disk(count: int, seed: int, lanes: int, folder: Path) -> Account:
    """Count the calls of an undisturbed run, then let `count` of them fail, each in a separate run."""
    library = build(folder)
    made = steps(folder, library)
    total = sum(len(step.calls) for step in made)
    print(f"{total} calls that need disk space in {len(made)} stages", flush=True)
    faults = list(enumerate(sample(made, count, random.Random(seed))))
    account = Account()
    threads = []
    for number in range(lanes):
        own = folder / f"lane{number}"
        own.mkdir()
        lane = Lane(own, library, account, made[-1].wanted)
        threads.append(threading.Thread(target=lane.work, args=(faults[number::lanes],)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return account


def main(argv: Sequence[str] | None = None) -> int:
    """Let writes of a small benchmark fail and run it again. 100 faults take about half an hour with two lanes."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.full_disk", description=main.__doc__)
    parser.add_argument("--faults", type=int, default=100, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="seed of the calls that fail and of the ways to fail")
    parser.add_argument("--lanes", type=int, default=2, help="parallel faults, one per core")
    given = parser.parse_args(argv)
    if not compiler():
        print("no C compiler, which is needed to let writes fail; install one, or set CC")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="full-disk-"))
    try:
        account = full_disk(given.faults, given.seed, given.lanes, folder)
    finally:
        shutil.rmtree(folder)
    for (writer, how), number in sorted(account.ends.items()):
        print(f"{writer}'s call: {how}: {number}")
    for mode, number in sorted(account.modes.items()):
        print(f"{mode}: {number}")
    for line, number in account.said.most_common():
        print(f"{number} x {line}")
    print(f"{account.ends.total()} faults, {len(account.problems)} problems")
    return bool(account.problems)


if __name__ == "__main__":
    sys.exit(main())
