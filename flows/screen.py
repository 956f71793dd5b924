"""Progress of a run on the terminal: stages that run, stages that are done, and the estimated time left."""

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
    """Prints one line per ended stage. On a terminal, a live display below shows the running stages.

    due: the number of stages to run.
    """

    def __init__(self, due: int, forecast: Forecast, console: Console) -> None:
        self._due, self._forecast, self._console = due, forecast, console
        self._done = 0
        self._running: dict[str, float] = {}
        self._started = time.monotonic()
        # The live display is drawn by another thread.
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=2, transient=True, redirect_stderr=False
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
        """A stage has started."""
        with self._lock:
            self._running[name] = time.monotonic()

    def ended(self, name: str, outcome: Outcome) -> None:
        """A stage has ended: print its outcome and the time left."""
        with self._lock:
            del self._running[name]
            self._done += 1
            self._forecast.ended(name, outcome)
            left = self._time_left()
        if outcome.failure:
            how = f"FAILED: {outcome.failure}"
        elif outcome.seconds:
            how = format_duration(outcome.seconds)
        else:
            how = "came from DVC's cache" if outcome.made else "up to date"
        self.say(" · ".join([f"{self._count()}  {name}  {how}", *left]))

    def say(self, line: str) -> None:
        """Print a line above the live display."""
        # The display may still list stages that have ended since it was last drawn.
        self._live.refresh()
        self._console.print(Text(line), soft_wrap=True)

    def _count(self) -> str:
        return f"{self._done:{len(str(self._due))}} of {self._due}"

    def _time_left(self) -> list[str]:
        """The estimated time left as text, in a list; empty if it is unknown or nothing is left."""
        now = time.monotonic()
        left = self._forecast.seconds({name: now - began for name, began in self._running.items()})
        return [f"about {format_duration(left)} left"] if left else []

    def _render(self) -> Text:
        now = time.monotonic()
        with self._lock:
            lines = [f"  {name}  {format_duration(now - began)}" for name, began in self._running.items()]
            head = " · ".join([f"{self._count()} done", format_duration(now - self._started), *self._time_left()])
        return Text("\n".join([*lines, head]), no_wrap=True, overflow="ellipsis")


def format_duration(seconds: float) -> str:
    """Format a duration: 4 s, 12 min, 1 h 05 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
