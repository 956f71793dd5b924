"""The leaderboard on the terminal."""

import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from captchabench.report.tables import Ranking, folds_note, interval, percent, rankings
from captchabench.scoring.leaderboard import read_leaderboard

_COLUMNS = 100


def print_leaderboard(path: Path, console: Console | None = None) -> None:
    """Print the leaderboard in `path` in at most 100 columns, one table per dataset.

    Raises InputError if the file is missing or not a leaderboard.
    """
    # A file or a pipe has no width: take enough for all columns.
    console = console or (Console() if sys.stdout.isatty() else Console(width=_COLUMNS))
    ranked = rankings(read_leaderboard(path))
    # The same width in all tables, so that their columns line up.
    width = max(len(_reader(row)) for ranking in ranked for row in ranking.rows)
    for ranking in ranked:
        console.print(_table(ranking, width))


def _table(ranking: Ranking, width: int) -> Table:
    folds = max(row["folds"] for row in ranking.rows)
    ceiling = f"of {percent(ranking.ceiling)}" if ranking.ceiling is not None and ranking.has_ceiling else ""
    why = "exact as a share of the highest exact match possible; see metrics/ambiguity.csv"
    table = Table(
        title=f"{ranking.heading} · {ranking.images}, {folds_note(folds)}",
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"{ceiling}: {why}" if ceiling else None,
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True, min_width=width)
    # Classes have no case. The CER of the label of a grid is the share of its tiles that are wrong.
    accuracy = {"selected": 8, "tiles ✗": 7} if ranking.grids else {"folded": 7, "CER": 6}
    # 100 columns do not hold both.
    size = {ceiling: 8} if ceiling else {"size": 6}
    columns = {"exact": 7, "95 %": 9, **accuracy, "ECE": 5, **size, "train s": 7, "images/s": 8}
    for name, min_width in columns.items():
        table.add_column(name, justify="right", no_wrap=True, min_width=min_width)
    for row in ranking.rows:
        table.add_row(
            _reader(row),
            percent(row["exact"]),
            interval(row),
            percent(row["selection"] if ranking.grids else row["exact_folded"]),
            percent(row["cer"]),
            f"{row['ece']:.3f}",
            percent(row["of_ceiling"]) if ceiling else _short(row["parameters"]),
            f"{row['train_seconds']:,.1f}",
            f"{row['images_per_second']:,.0f}",
            style="bold green" if row["reader"] in ranking.best else None,
        )
    return table


def _reader(row: dict[str, Any]) -> str:
    """The reader, shortened to "crnn (union)" for narrow columns."""
    return str(row["reader"]).replace("trained on ", "")


def _short(count: int) -> str:
    """A count in about three digits: 812, 45.1k, 6.6M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
