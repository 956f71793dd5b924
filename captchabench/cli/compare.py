"""The commands that read other commits: `captchabench compare` and `captchabench history`.

Their dependencies are imported inside them: statsmodels and DVC take a second, which other commands do not need.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from captchabench import git
from captchabench.errors import InputError
from captchabench.registry import did_you_mean
from captchabench.storage.files import write_text

# Exit codes: 1 is a user's mistake, 2 a wrong command line. NOT_JUDGED: nothing is worse, but not all was compared.
REGRESSION, NOT_JUDGED = 3, 4
# Columns that the tables need at least, and their width if the output is not a terminal.
_LEAST_COLUMNS, _PIPED_COLUMNS = 120, 156


class Format(StrEnum):
    """Output format of a result."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"


def compare(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REV [REV]",
            help="Old and new: commits, branches or tags. The second defaults to the workspace.",
        ),
    ] = None,
    models: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare model B with model A, in one REV or the workspace."),
    ] = None,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.TERMINAL,
    page: Annotated[Path | None, typer.Option(help="Also write the comparison as an HTML page to this file.")] = None,
    flips: Annotated[bool, typer.Option("--flips", help="List the images that only one side read correctly.")] = False,
    fail_on_regression: Annotated[
        bool,
        typer.Option(
            "--fail-on-regression",
            help=f"Exit with code {REGRESSION} if a row is worse, and with {NOT_JUDGED} if something was not judged.",
        ),
    ] = False,
    margin: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage points of exact match, or of CER, that a row may lose.")
    ] = 0.0,
    power: Annotated[
        float | None,
        typer.Option(min=0.01, max=100, help="Say how many images or trainings a difference of so many points needs."),
    ] = None,
) -> None:
    """Compare two commits or two models: what changed, by how much, and whether chance explains it."""
    from captchabench.comparison import compare as comparing
    from captchabench.comparison.revisions import WORKSPACE, side
    from captchabench.report.change import change_page

    names = revisions or []
    if margin and not fail_on_regression:
        raise InputError("--margin needs --fail-on-regression; give both")
    if models:
        if len(names) > 1:
            raise InputError(f"--models compares within one commit; give one of {', '.join(names)}")
        comparison = comparing.compare_models(side(names[0] if names else WORKSPACE), *models)
    else:
        if not 1 <= len(names) <= 2:
            raise InputError("give one or two commits, such as: captchabench compare main; or --models A B")
        comparison = comparing.compare(*map(side, [*names, WORKSPACE][:2]))
    _print_comparison(comparison, format, flips)
    if power is not None:
        from captchabench.report.power import power_lines

        # Beside the comparison, so that JSON stays JSON.
        for line in power_lines(comparison, power / 100):
            typer.echo(line, err=format is not Format.TERMINAL)
    if page is not None:
        write_text(page, change_page(comparison))
        typer.echo(f"page: {page}", err=True)
    if fail_on_regression:
        _fail_on_regression(comparison, margin / 100)


def history(
    metric: Annotated[str, typer.Option(help="The metric of the table and of the first plot.")] = "exact",
    last: Annotated[int, typer.Option(min=1, help="How many of the newest commits the table shows.")] = 6,
    format: Annotated[Format, typer.Option(help="Output format; json has every metric and commit.")] = Format.TERMINAL,
    plot: Annotated[Path | None, typer.Option(help="Also write plots of all metrics to this HTML file.")] = None,
) -> None:
    """Show the metrics over the commits that touched metrics/, and the workspace where it differs."""
    from captchabench.comparison import revisions
    from captchabench.comparison.history import Board
    from captchabench.comparison.history import history as metrics_over_time
    from captchabench.report import history as report

    past = revisions.commits()
    if git.is_shallow(Path()):
        typer.echo("this clone lacks older commits; `git fetch --unshallow` fetches them", err=True)
    texts = revisions.read_over_time(Path(), revisions.LEADERBOARD, past)
    boards = [
        Board(c.commit, c.date, c.subject, text, revisions.image_digests(c.commit))
        for c, text in zip(past, texts, strict=True)
        if text is not None
    ]
    if revisions.changed():
        (text,) = revisions.read_files(Path(), None, [revisions.LEADERBOARD])
        if text is not None:
            boards.append(Board(revisions.WORKSPACE, "", "files on disk", text, revisions.image_digests(None)))
    table = metrics_over_time(boards)
    if table.is_empty():
        raise InputError(f"no commit has a {revisions.LEADERBOARD}; commit metrics/ after `dvc repro`")
    if metric not in set(table["metric"]):
        raise InputError(f"no commit has a metric '{metric}'; {did_you_mean(metric, table['metric'].unique())}")
    if format is Format.JSON:
        typer.echo(_json(table.to_dicts()))
    elif format is Format.MARKDOWN:
        typer.echo(report.markdown_history(table, metric, last))
    else:
        report.print_history(table, metric, last, _console())
    if plot is not None:
        write_text(plot, report.history_page(table, metric))
        typer.echo(f"plot: {plot}", err=True)


def _print_comparison(comparison: Any, format: Format, flips: bool) -> None:
    from captchabench.report.comparison import markdown_comparison, print_comparison

    if format is Format.JSON:
        typer.echo(_json(comparison.as_json()))
    elif format is Format.MARKDOWN:
        typer.echo(markdown_comparison(comparison, flips))
    else:
        print_comparison(comparison, _console(), flips)


def _fail_on_regression(comparison: Any, margin: float) -> None:
    """Exit with REGRESSION if rows are worse, with NOT_JUDGED if something was not judged; print which."""
    untested = sum(row.exact is None for row in comparison.rows)
    worse = comparison.regressions(margin)
    names = ", ".join(f"{row.model} on {row.dataset}" for row in worse) or "none"
    typer.echo(f"regressions: {names}; rows without a test: {untested} of {len(comparison.rows)}", err=True)
    for clause in comparison.unjudged():
        typer.echo(f"not judged: {clause}", err=True)
    if worse or comparison.unjudged():
        raise typer.Exit(REGRESSION if worse else NOT_JUDGED)


def _console() -> Console:
    console = Console()
    width = max(console.width, _LEAST_COLUMNS) if console.is_terminal else _PIPED_COLUMNS
    return Console(highlight=False, width=width)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
