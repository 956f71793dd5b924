"""How long a run has to go yet: what is left, played through with the seconds that stages took before."""

import heapq
from collections.abc import Mapping, Sequence

from flows.dispatch import Outcome, dependents, urgency
from flows.graph import Stage
from flows.resources import Pool, Share

# Known seconds of another machine say nothing before so many of them have been seen to pass here.
_LEARNT_SECONDS = 20.0
# Those of this machine count as this much of what is seen.
_OWN_SECONDS = 60.0


class Forecast:
    """What is left of a run. due: in order. own: seconds by stage, of runs here. others: of runs elsewhere.

    Stages of which nothing is known make it say nothing.
    """

    def __init__(
        self,
        due: Sequence[Stage],
        cores: tuple[int, ...],
        devices: tuple[str, ...],
        own: Mapping[str, float],
        others: Mapping[str, float],
    ) -> None:
        self._left = {stage.name: stage for stage in due}
        self._cores, self._devices = cores, devices
        self._expected = {**others, **own}
        self._own = own
        self._seen = self._took = 0.0
        self._order = urgency(due, self._expected)

    def ended(self, name: str, outcome: Outcome) -> None:
        """A stage is over, and with one that failed all that need it."""
        del self._left[name]
        if outcome.failure:
            for blocked in dependents(name, self._left.values()):
                del self._left[blocked]
        # What did not run says nothing of this machine.
        elif outcome.seconds and name in self._expected:
            self._seen += self._expected[name]
            self._took += outcome.seconds

    def seconds(self, running: Mapping[str, float]) -> float | None:
        """Until the end; None while it is not known. running: how long each of those has run."""
        if not self._left.keys() <= self._expected.keys():
            return None
        is_own = self._left.keys() <= self._own.keys()
        if not is_own and self._seen < _LEARNT_SECONDS:
            return None
        beside = _OWN_SECONDS if is_own else 0.0
        pace = (self._took + beside) / (self._seen + beside)
        return self._play({name: pace * self._expected[name] for name in self._left}, running)

    def _play(self, takes: Mapping[str, float], running: Mapping[str, float]) -> float:
        pool = Pool(self._cores, self._devices)
        waiting = {name: self._left.keys() & set(stage.upstream) for name, stage in self._left.items()}
        ends: list[tuple[float, str, Share]] = []
        now = 0.0
        for name in running:
            if share := pool.take(self._left[name].need):
                del waiting[name]
                # One that takes longer than it should is taken to be nearly done.
                heapq.heappush(ends, (max(takes[name] - running[name], 0.1 * running[name]), name, share))
        while True:
            for name in sorted((n for n in waiting if not waiting[n]), key=lambda n: self._order[n], reverse=True):
                if share := pool.take(self._left[name].need):
                    del waiting[name]
                    heapq.heappush(ends, (now + takes[name], name, share))
            if not ends:
                return now
            now, ended, share = heapq.heappop(ends)
            pool.give_back(share)
            for needed in waiting.values():
                needed.discard(ended)
