"""The command line and the output of a benchmark: a JSON file, notes, and a table at the end."""

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
    """The default path of a benchmark's JSON file: in the folder $OUT if it is set, else in reports/benchmarks."""
    return Path(os.environ.get("OUT") or "reports/benchmarks") / f"{benchmark}.json"


def say(what: str) -> None:
    """Print what is being measured, as one line on standard error."""
    _PROGRESS.print(what, highlight=False, markup=False)


def finish(path: Path, result: dict[str, Any], notes: list[str], *tables: Table) -> None:
    """Write `result` as JSON to `path`; print the notes, then the tables."""
    write_json(path, result)
    # A file has no width: take enough for the table.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    for note in [*notes, f"written to {path}"]:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    for table in tables:
        console.print(table)


def run(main: Callable[..., None], about: str) -> None:
    """Run a benchmark's command line; --help shows the docstring of `main`, then `about`.

    A user's mistake ends in one line and exit code 1.
    """
    # "\b" keeps the lines of a list.
    paragraphs = [f"\b\n{p}" if "\n  " in p else p for p in about.strip().split("\n\n")]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(help="\n\n".join([inspect.getdoc(main) or "", *paragraphs]))(main)
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")
