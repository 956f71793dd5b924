"""Progress bars on standard error. Nothing is shown if that is not a terminal."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn, track


class TrainingProgress:
    """A progress bar over training steps that shows loss, exact match and speed."""

    def __init__(self, steps: int, *, enabled: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._progress.add_task("train", total=steps, state="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more steps as done."""
        self._progress.advance(self._task, steps)

    def report(self, loss: float, exact: float, images_per_second: float) -> None:
        """Show the result of an evaluation: mean loss, exact match (0 to 1) and images per second."""
        state = f"loss {loss:.3f}  exact {exact:.1%}  {images_per_second:,.0f} images/s"
        self._progress.update(self._task, state=state)


T = TypeVar("T")


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield `items` and show a progress bar called `what`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
    else:
        yield from track(items, what, total, console=console, transient=True)
