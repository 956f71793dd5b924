"""How the benchmarks end: a JSON file and, last of all, a table."""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from captchabench.errors import InputError
from captchabench.storage.files import write_json

_PROGRESS = Console(stderr=True)


def default_path(benchmark: str) -> Path:
    """Where a benchmark writes unless told: the folder named by OUT where that is set, else reports/benchmarks."""
    return Path(os.environ.get("OUT") or "reports/benchmarks") / f"{benchmark}.json"


def say(what: str) -> None:
    """One line on standard error: what is being measured now."""
    _PROGRESS.print(what, highlight=False, markup=False)


def finish(path: Path, result: dict[str, Any], notes: list[str], table: Table) -> None:
    """Write `result` as JSON to `path`; print the notes, then the table."""
    write_json(path, result)
    # Where the output goes to a file, lines may be as long as the table needs.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    for note in [*notes, f"written to {path}"]:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print(table)


def run(main: Callable[..., None], about: str) -> None:
    """Run a benchmark's command line; --help shows the docstring of `main`, then `about`.

    A user's mistake ends in one line and exit code 1.
    """
    # Lists keep their lines.
    paragraphs = [f"\b\n{p}" if "\n  " in p else p for p in about.strip().split("\n\n")]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(help="\n\n".join([inspect.getdoc(main) or "", *paragraphs]))(main)
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")
