"""A progress bar over images; silent where standard error is not a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """`items`, with a bar called `what` that fills as they pass."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
    else:
        yield from track(items, what, total, console=console, transient=True)
