"""The commands that look at other commits: `captchabench compare` and `captchabench history`.

What they need is imported inside them: statsmodels and DVC take a second, which the other commands are spared.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from captchabench.errors import InputError
from captchabench.registry import did_you_mean
from captchabench.storage.files import write_text

# 1 is a user's mistake, 2 a wrong command line.
REGRESSION = 3
# What the tables need at least, and what they get where the output is not a terminal.
_LEAST_COLUMNS, _PIPED_COLUMNS = 120, 140


class Format(StrEnum):
    """How a result is printed."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"


def compare(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REV [REV]",
            help="Old and new: commits, branches or tags. The second is the workspace unless given.",
        ),
    ] = None,
    models: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare model B with model A, in one REV or the workspace."),
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TERMINAL,
    page: Annotated[Path | None, typer.Option(help="Also write it as a page, an HTML file, here.")] = None,
    flips: Annotated[bool, typer.Option("--flips", help="List the images that one side alone read right.")] = False,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help=f"Exit with code {REGRESSION} if a row is worse.")
    ] = False,
    margin: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage points of exact match that a row may lose all the same.")
    ] = 0.0,
) -> None:
    """Compare two commits, or two models: what changed, by how much, and whether chance would do as much."""
    from captchabench.comparison import compare as comparing
    from captchabench.comparison import revisions as at
    from captchabench.report.change import change_page

    given = revisions or []
    if margin and not fail_on_regression:
        raise InputError("--margin is for --fail-on-regression; give both")
    if models:
        if len(given) > 1:
            raise InputError(f"--models compares within one commit; give one of {', '.join(given)}")
        found = comparing.compare_models(at.side(given[0] if given else at.WORKSPACE), *models)
    else:
        if not 1 <= len(given) <= 2:
            raise InputError("give one or two commits, such as: captchabench compare main; or --models A B")
        found = comparing.compare(*map(at.side, [*given, at.WORKSPACE][:2]))
    _print_comparison(found, format, flips)
    if page is not None:
        write_text(page, change_page(found))
        typer.echo(f"page: {page}", err=True)
    if fail_on_regression:
        _fail_on_regression(found, margin / 100)


def history(
    metric: Annotated[str, typer.Option(help="The metric of the table, and the first of the plot.")] = "exact",
    last: Annotated[int, typer.Option(min=1, help="Commits in the table, the newest.")] = 6,
    format: Annotated[
        Format, typer.Option(help="How to print it; json has every metric and commit.")
    ] = Format.TERMINAL,
    plot: Annotated[Path | None, typer.Option(help="Also write a page with a plot of every metric here.")] = None,
) -> None:
    """Show the metrics over the commits that touched metrics/, and the workspace where it differs."""
    from captchabench.comparison import revisions as at
    from captchabench.comparison.history import history as over_time
    from captchabench.report import history as report

    past = at.commits()
    texts = at.read_over_time(Path(), at.LEADERBOARD, past)
    boards = [(c.commit, c.date, c.subject, text) for c, text in zip(past, texts, strict=True) if text is not None]
    if at.changed() and (text := at.read_files(Path(), None, [at.LEADERBOARD])[0]) is not None:
        boards.append((at.WORKSPACE, "", "not committed", text))
    found = over_time(boards)
    if found.is_empty():
        raise InputError(f"no commit has a {at.LEADERBOARD}; commit metrics/ after `dvc repro`")
    if metric not in set(found["metric"]):
        raise InputError(f"no commit has a metric '{metric}'; {did_you_mean(metric, found['metric'].unique())}")
    if format is Format.JSON:
        typer.echo(_json(found.to_dicts()))
    elif format is Format.MARKDOWN:
        typer.echo(report.markdown_history(found, metric, last))
    else:
        report.print_history(found, metric, last, _console())
    if plot is not None:
        write_text(plot, report.history_page(found, metric))
        typer.echo(f"plot: {plot}", err=True)


def _print_comparison(found: Any, format: Format, flips: bool) -> None:
    from captchabench.report.comparison import markdown_comparison, print_comparison

    if format is Format.JSON:
        typer.echo(_json(found.as_json()))
    elif format is Format.MARKDOWN:
        typer.echo(markdown_comparison(found, flips))
    else:
        print_comparison(found, _console(), flips)


def _fail_on_regression(found: Any, margin: float) -> None:
    """End with a code of its own where rows are worse; say what could not be judged."""
    unjudged = sum(row.exact is None for row in found.rows)
    worse = found.regressions(margin)
    named = ", ".join(f"{row.model} on {row.dataset}" for row in worse) or "none"
    typer.echo(f"regressions: {named}; rows without a test: {unjudged} of {len(found.rows)}", err=True)
    if worse:
        raise typer.Exit(REGRESSION)


def _console() -> Console:
    console = Console()
    width = max(console.width, _LEAST_COLUMNS) if console.is_terminal else _PIPED_COLUMNS
    return Console(highlight=False, width=width)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
