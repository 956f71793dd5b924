"""The change against an earlier commit, and which commit this is: for the page, which is made without them too."""

from pathlib import Path

from captchabench.comparison.compare import compare
from captchabench.comparison.revisions import WORKSPACE, changed, commits, resolve, side
from captchabench.errors import InputError
from captchabench.report.findings import Change

_SHORT = 7


def change_since_previous(root: Path = Path()) -> Change:
    """Compare the metrics on disk with those of the last commit that had others; the reason where there is none."""
    try:
        known = commits(root)
        # Metrics that are committed as they lie on disk are compared with the ones before.
        earlier = known if changed(root) else known[:-1]
        if not earlier:
            return Change("", [], "There is no earlier commit with metrics to compare with.")
        last = earlier[-1]
        found = compare(side(last.commit[:_SHORT], root), side(WORKSPACE, root))
    except InputError as error:
        return Change("", [], f"Nothing to compare with: {error}.")
    # A page without this section is worth more than none, whatever a remote or an old file made of it.
    except Exception as error:
        return Change("", [], f"The comparison with the last commit failed: {error!r}.")
    against = f"{last.commit[:_SHORT]} ({last.subject}, {last.date[:10]})"
    return Change(against, [row.as_json() for row in found.rows])


def this_revision(root: Path = Path()) -> str:
    """The commit that is checked out, and whether the metrics are newer."""
    try:
        commit = resolve("HEAD", root)[:_SHORT]
        return f"{commit}, and metrics that are not committed yet" if changed(root) else commit
    except InputError as error:
        return f"unknown: {error}"
