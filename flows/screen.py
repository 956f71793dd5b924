"""What a person sees of a run: what runs, what is done, and how long it will take."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flows.dispatch import Outcome
from flows.forecast import Forecast


class Screen:
    """On a terminal a line for each stage that has ended, and below them what runs now; elsewhere the lines alone.

    due: how many stages there are to run.
    """

    def __init__(self, due: int, forecast: Forecast, console: Console) -> None:
        self._due, self._forecast, self._console = due, forecast, console
        self._done = 0
        self._running: dict[str, float] = {}
        self._started = time.monotonic()
        # The live part is drawn by a thread of its own.
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self._now, console=console, refresh_per_second=2, transient=True, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def began(self, name: str) -> None:
        """A stage begins."""
        with self._lock:
            self._running[name] = time.monotonic()

    def ended(self, name: str, outcome: Outcome) -> None:
        """A stage has ended: say how, and what is left."""
        with self._lock:
            del self._running[name]
            self._done += 1
            self._forecast.ended(name, outcome)
            left = self._left()
        if outcome.failure:
            how = f"FAILED: {outcome.failure}"
        elif outcome.seconds:
            how = spelt(outcome.seconds)
        else:
            how = "came from DVC's cache" if outcome.made else "up to date"
        self.say(" · ".join([f"{self._count()}  {name}  {how}", *left]))

    def say(self, line: str) -> None:
        """Print a line above what runs."""
        # What is below it was drawn a moment ago, of stages that have ended since.
        self._live.refresh()
        self._console.print(Text(line), soft_wrap=True)

    def _count(self) -> str:
        return f"{self._done:{len(str(self._due))}} of {self._due}"

    def _left(self) -> list[str]:
        """How long it will take, in words; nothing if that is not known, or nothing is left."""
        now = time.monotonic()
        left = self._forecast.seconds({name: now - began for name, began in self._running.items()})
        return [f"about {spelt(left)} left"] if left else []

    def _now(self) -> Text:
        now = time.monotonic()
        with self._lock:
            lines = [f"  {name}  {spelt(now - began)}" for name, began in self._running.items()]
            head = " · ".join([f"{self._count()} done", spelt(now - self._started), *self._left()])
        return Text("\n".join([*lines, head]), no_wrap=True, overflow="ellipsis")


def spelt(seconds: float) -> str:
    """A duration for people: 4 s, 12 min, 1 h 05 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
