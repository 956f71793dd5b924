"""Estimates the time left of a run: simulates the remaining stages with the seconds that they took before."""

import heapq
from collections.abc import Mapping, Sequence

from flows.dispatch import Outcome, dependents, priorities
from flows.graph import Stage
from flows.resources import Pool, Share

# Durations from another machine are used once stages with a total of so many such seconds have run here.
_LEARNT_SECONDS = 20.0
# Weight of the prior that this machine is as fast as in earlier runs, as seconds of observed stages.
_PRIOR_SECONDS = 60.0


class Forecast:
    """The time left of a run. due: in order. local: seconds by stage from runs here. committed: from another machine.

    There is no estimate while a remaining stage has no known duration.
    """

    def __init__(
        self,
        due: Sequence[Stage],
        cores: tuple[int, ...],
        devices: tuple[str, ...],
        local: Mapping[str, float],
        committed: Mapping[str, float],
    ) -> None:
        self._left = {stage.name: stage for stage in due}
        self._cores, self._devices = cores, devices
        self._expected = {**committed, **local}
        self._local = local
        self._expected_total = self._actual_total = 0.0
        self._order = priorities(due, self._expected)

    def ended(self, name: str, outcome: Outcome) -> None:
        """A stage has ended. If it failed, the stages that need it are dropped too."""
        del self._left[name]
        if outcome.failure:
            for blocked in dependents(name, self._left.values()):
                del self._left[blocked]
        # A stage that did not run says nothing about the speed of this machine.
        elif outcome.seconds and name in self._expected:
            self._expected_total += self._expected[name]
            self._actual_total += outcome.seconds

    def seconds(self, running: Mapping[str, float]) -> float | None:
        """Seconds until the end; None if unknown. running: seconds that each running stage has run."""
        if not self._left.keys() <= self._expected.keys():
            return None
        is_local = self._left.keys() <= self._local.keys()
        if not is_local and self._expected_total < _LEARNT_SECONDS:
            return None
        prior = _PRIOR_SECONDS if is_local else 0.0
        pace = (self._actual_total + prior) / (self._expected_total + prior)
        return self._simulate({name: pace * self._expected[name] for name in self._left}, running)

    def _simulate(self, takes: Mapping[str, float], running: Mapping[str, float]) -> float:
        pool = Pool(self._cores, self._devices)
        waiting = {name: self._left.keys() & set(stage.upstream) for name, stage in self._left.items()}
        ends: list[tuple[float, str, Share]] = []
        now = 0.0
        for name in running:
            if share := pool.take(self._left[name].need):
                del waiting[name]
                # A stage that takes longer than expected is assumed to be nearly done.
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
