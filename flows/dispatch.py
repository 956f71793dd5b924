"""Starts each stage as soon as the stages that it needs are done and its share of the machine is free."""

import queue
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from flows.graph import Stage
from flows.resources import Pool, Share

# How often to look for new workers, which may come and go while stages run.
_POLL_SECONDS = 5.0
# Output lines of a failed stage in the summary at the end of a run.
_LAST_LINES = 10


@dataclass(frozen=True)
class Outcome:
    """The outcome of a stage. made: it ran or was restored from DVC's cache; False if it was up to date.

    failure: one line, empty on success. lines: the last lines of a failed stage's output. blocked: it was not started
    because a stage that it needs failed. seconds: from start to end, including retries; 0 if it did not run.
    """

    made: bool = False
    failure: str = ""
    lines: tuple[str, ...] = ()
    blocked: bool = False
    seconds: float = 0.0


# Starts a stage and returns at once. When the stage has ended, the callback is called from any thread with a function
# that returns the outcome.
Start = Callable[[Stage, Share, Callable[[Callable[[], Outcome]], None]], None]

_Ended = tuple[str, Share, Callable[[], Outcome]]


def dispatch(due: Sequence[Stage], pool: Pool, seconds: Mapping[str, float], start: Start) -> dict[str, Outcome]:
    """Run the stages in `due`, in parallel; return the outcome of each.

    seconds: how long each took the last time, so that the longest remaining chain is started first. A failure stops
    the stages that depend on it and no others.
    """
    names = {stage.name for stage in due}
    waiting = {stage.name: names.intersection(stage.upstream) for stage in due}
    left = {stage.name: stage for stage in due}
    order = priorities(due, seconds)
    ended: queue.Queue[_Ended] = queue.Queue()
    running: set[str] = set()
    outcomes: dict[str, Outcome] = {}
    while left or running:
        for name in sorted((n for n in left if not waiting[n]), key=lambda n: order[n], reverse=True):
            if (share := pool.take(left[name].need)) is not None:
                stage = left.pop(name)
                running.add(name)
                start(stage, share, partial(_report_end, ended, name, share))
        try:
            name, share, get_outcome = ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        outcome = get_outcome()
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


def failure_summary(outcomes: Mapping[str, Outcome]) -> str:
    """Which stages failed, why, and their last output lines; then which stages were blocked. Empty if none."""
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.failure}
    parts = [
        "\n".join([f"{name}: {outcome.failure}", *(f"    {line}" for line in outcome.lines[-_LAST_LINES:])])
        for name, outcome in failed.items()
        if not outcome.blocked
    ]
    if blocked := [name for name, outcome in failed.items() if outcome.blocked]:
        parts.append(f"not run because of that: {', '.join(blocked)}")
    return "\n".join(parts)


def _report_end(ended: queue.Queue[_Ended], name: str, share: Share, get_outcome: Callable[[], Outcome]) -> None:
    ended.put((name, share, get_outcome))


def priorities(due: Sequence[Stage], seconds: Mapping[str, float]) -> dict[str, tuple[bool, float, int]]:
    """Sort keys, larger first: whether `soon` is set; seconds of the longest chain from the stage; number of inputs."""
    # A stage without a known duration counts as the median.
    median = sorted(seconds.values())[len(seconds) // 2] if seconds else 1.0
    chain: dict[str, float] = {}
    for stage in reversed(due):
        after = [chain[other.name] for other in due if stage.name in other.upstream]
        chain[stage.name] = seconds.get(stage.name, median) + max(after, default=0.0)
    return {stage.name: (stage.need.soon, chain[stage.name], len(stage.upstream)) for stage in due}


def dependents(name: str, stages: Collection[Stage]) -> list[str]:
    """The names of the stages that need `name`, directly or indirectly. `stages` are in topological order."""
    reached = [name]
    for stage in stages:
        if not set(reached).isdisjoint(stage.upstream):
            reached.append(stage.name)
    return reached[1:]
