"""What a run leaves for people: the leaderboard, what changed, and where the page is, as Prefect artifacts."""

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
    """Publish the results; return the rows that are significantly worse than the baseline's, in words.

    margin: the share of images that a row may lose all the same. Raises InputError if `baseline` is no commit.
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
    """The results beside those of `baseline`, None for the last commit of metrics/: as Markdown, and what got worse.

    The comparison is also written as a page, reports/change.html.

    Raises InputError if `baseline` is given and cannot be compared with.
    """
    # They take a second to import, and a run of a few cells needs none of them.
    from captchabench.comparison.compare import compare
    from captchabench.comparison.revisions import WORKSPACE, commits, side
    from captchabench.report.change import change_page
    from captchabench.report.comparison import markdown_comparison

    try:
        if baseline is None:
            past = commits(root)
            if not past:
                return "No commit has results yet; there is nothing to compare with.", []
            found = compare(side(past[-1].commit, root), side(WORKSPACE, root))
        elif not baseline.isprintable():
            # Nothing that a command line could hold, but JSON can.
            raise InputError(f"no commit, branch or tag called {baseline!r}; look at its spelling")
        else:
            found = compare(side(baseline, root), side(WORKSPACE, root))
    except InputError as error:
        if baseline is not None:
            raise
        return f"Not compared: {error}", []
    write_text(root / _CHANGE, change_page(found))
    named = [
        f"{row.model} on {row.dataset} ({row.exact.difference:+.1%})"
        for row in found.regressions(margin)
        if row.exact is not None
    ]
    head = f"**Significantly worse: {', '.join(named)}.**" if named else "Nothing is significantly worse."
    return f"{head}\n\n{markdown_comparison(found)}", named
