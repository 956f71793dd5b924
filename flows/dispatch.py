"""Stages, each as soon as what it needs is made and its share of the machine is free."""

import queue
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from flows.graph import Stage
from flows.resources import Pool, Share

# Workers come and go while stages run.
_LOOK_AGAIN_SECONDS = 5.0
# Of a failed stage, where the run's end is told.
_LINES = 10


@dataclass(frozen=True)
class Outcome:
    """What became of a stage. made: it ran, or came back from DVC's cache; else it was up to date.

    failure: one line, empty if all went well; lines: the last of its output then. blocked: it was not tried,
    because one that it needs failed. seconds: from start to end, retries among them; 0 if it did not run.
    """

    made: bool = False
    failure: str = ""
    lines: tuple[str, ...] = ()
    blocked: bool = False
    seconds: float = 0.0


# Begins a stage and returns at once; calls back, from any thread, with a function that tells the outcome.
Start = Callable[[Stage, Share, Callable[[Callable[[], Outcome]], None]], None]

_Ended = tuple[str, Share, Callable[[], Outcome]]


def dispatch(due: Sequence[Stage], pool: Pool, seconds: Mapping[str, float], start: Start) -> dict[str, Outcome]:
    """Run the stages in `due`, in parallel; return what became of each.

    seconds: what each took the last time, so that the longest way to the end is begun first. A failure stops what
    depends on it and nothing else.
    """
    names = {stage.name for stage in due}
    waiting = {stage.name: names.intersection(stage.upstream) for stage in due}
    left = {stage.name: stage for stage in due}
    order = urgency(due, seconds)
    ended: queue.Queue[_Ended] = queue.Queue()
    running: set[str] = set()
    outcomes: dict[str, Outcome] = {}
    while left or running:
        for name in sorted((n for n in left if not waiting[n]), key=lambda n: order[n], reverse=True):
            if (share := pool.take(left[name].need)) is not None:
                stage = left.pop(name)
                running.add(name)
                start(stage, share, partial(_tell, ended, name, share))
        try:
            name, share, judge = ended.get(timeout=_LOOK_AGAIN_SECONDS)
        except queue.Empty:
            continue
        outcome = judge()
        pool.give_back(share)
        running.remove(name)
        outcomes[name] = outcome
        for needed in waiting.values():
            needed.discard(name)
        if outcome.failure:
            for blocked in dependents(name, left.values()):
                del left[blocked]
                outcomes[blocked] = Outcome(failure=f"not run, since {name} failed", blocked=True)
    return outcomes


def account(outcomes: Mapping[str, Outcome]) -> str:
    """Which stages failed, why, and the last lines of each; then those that could not run for it. Empty if none."""
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.failure}
    parts = [
        "\n".join([f"{name}: {outcome.failure}", *(f"    {line}" for line in outcome.lines[-_LINES:])])
        for name, outcome in failed.items()
        if not outcome.blocked
    ]
    if blocked := [name for name, outcome in failed.items() if outcome.blocked]:
        parts.append(f"not run for that: {', '.join(blocked)}")
    return "\n".join(parts)


def _tell(ended: queue.Queue[_Ended], name: str, share: Share, judge: Callable[[], Outcome]) -> None:
    ended.put((name, share, judge))


def urgency(due: Sequence[Stage], seconds: Mapping[str, float]) -> dict[str, tuple[bool, float, int]]:
    """Whether a stage is wanted soon; seconds from its start to the end of the longest chain; how much it gathers."""
    # A stage never seen is taken for a usual one.
    usual = sorted(seconds.values())[len(seconds) // 2] if seconds else 1.0
    chain: dict[str, float] = {}
    for stage in reversed(due):
        after = [chain[other.name] for other in due if stage.name in other.upstream]
        chain[stage.name] = seconds.get(stage.name, usual) + max(after, default=0.0)
    return {stage.name: (stage.need.soon, chain[stage.name], len(stage.upstream)) for stage in due}


def dependents(name: str, stages: Collection[Stage]) -> list[str]:
    """The names of the stages that need `name`, directly or not; `stages` are in order."""
    found = [name]
    for stage in stages:
        if not set(found).isdisjoint(stage.upstream):
            found.append(stage.name)
    return found[1:]
