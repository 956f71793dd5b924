"""Publishes the leaderboard, the comparison with the baseline and a link to the page as Prefect artifacts."""

import os
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger

from captchabench.errors import InputError
from captchabench.storage.files import write_text

_LEADERBOARD = Path("metrics/leaderboard.md")
_PAGE = Path("reports/index.html")
_CHANGE = Path("reports/change.html")


def publish(root: Path, baseline: str | None, margin: float) -> list[str]:
    """Publish the results; return the rows that are worse than the baseline's, as text.

    margin: the share of images that a row may lose without counting. Raises InputError if `baseline` is not a commit.
    """
    if (root / _LEADERBOARD).exists():
        create_markdown_artifact((root / _LEADERBOARD).read_text(encoding="utf-8"), key="leaderboard")
    if (root / _PAGE).exists():
        address = os.environ.get("CAPTCHABENCH_PAGE") or (root / _PAGE).resolve().as_uri()
        create_link_artifact(address, "the page", key="page")
    text, regressions = compared(root, baseline, margin)
    get_run_logger().info(text.partition("\n")[0])
    create_markdown_artifact(text, key="comparison")
    return regressions


def compared(root: Path, baseline: str | None, margin: float) -> tuple[str, list[str]]:
    """Compare the results with `baseline`; return the comparison as Markdown and the rows that got worse.

    baseline: None means the last commit that touched metrics/. The comparison is also written to reports/change.html.
    Raises InputError if `baseline` is given and cannot be compared with.
    """
    # These imports take a second, and a run of selected cells needs none of them.
    from captchabench.comparison.compare import compare
    from captchabench.comparison.revisions import WORKSPACE, commits, side
    from captchabench.report.change import change_page
    from captchabench.report.comparison import markdown_comparison

    try:
        if baseline is None:
            past = commits(root)
            if not past:
                return "No commit has results yet; there is nothing to compare with.", []
            comparison = compare(side(past[-1].commit, root), side(WORKSPACE, root))
        elif not baseline.isprintable():
            # Possible through Prefect's API: JSON may hold characters that a command line cannot.
            raise InputError(f"no commit, branch or tag called {baseline!r}; check its spelling")
        else:
            comparison = compare(side(baseline, root), side(WORKSPACE, root))
    except InputError as error:
        if baseline is not None:
            raise
        return f"Not compared: {error}", []
    write_text(root / _CHANGE, change_page(comparison))
    worse = [
        f"{row.model} on {row.dataset} ({row.exact.difference:+.1%}, {row.words})"
        for row in comparison.regressions(margin)
        if row.exact is not None
    ]
    # The verdicts that the table below it shows.
    head = f"**Significantly worse: {', '.join(worse)}.**" if worse else "Nothing is significantly worse."
    if unjudged := comparison.unjudged():
        head += f" {len(unjudged)} not judged, see below."
    return f"{head}\n\n{markdown_comparison(comparison)}", worse
