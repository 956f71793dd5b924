"""A comparison as an HTML page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from captchabench.comparison.rows import Comparison
from captchabench.comparison.rows import Row as Compared
from captchabench.report.comparison import HEAD, Notes, caveats, legend, outcome, repinned, row_texts, title
from captchabench.report.markup import Column, Row, table

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>captchabench: $title</title>
<style>
$style
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")
_SAME = "no significant change"
_MARKS = {"better": "▲ ", "worse": "▼ ", "mixed": "▼ "}
# The columns of the terminal and of Markdown, and one for the dataset.
_COLUMNS = (Column(HEAD[0]), Column("dataset", words=True), *map(Column, HEAD[1:-1]), Column(HEAD[-1], words=True))


def change_page(comparison: Comparison) -> str:
    """One HTML file without scripts or network access. Rows without a significant change are folded."""
    notes = Notes(comparison)
    changed = [row for row in comparison.rows if row.verdict != _SAME]
    same = [row for row in comparison.rows if row.verdict == _SAME]
    parts = [f"<p><b>{escape(outcome(comparison))}.</b></p>"]
    if changed:
        parts.append(_table("What changed.", changed, notes))
    if same:
        listed = _table("No significant change.", same, notes)
        parts.append(f"<details><summary>{len(same)} without a significant change</summary>{listed}</details>")
    told = (*caveats(comparison), *notes.lines(), *repinned(comparison), *_on_disk(comparison), legend(comparison))
    parts += [f'<p class="soft">{escape(line)}</p>' for line in told]
    return _PAGE.substitute(
        title=escape(title(comparison)),
        style=files("captchabench.report").joinpath("page.css").read_text(encoding="utf-8").strip(),
        body="\n".join(parts),
    )


def _on_disk(comparison: Comparison) -> list[str]:
    """Where sides without a commit come from, as one line: the page may be read after their files were committed."""
    sides = {comparison.old: comparison.old_commit, comparison.new: comparison.new_commit}
    names = [name for name, commit in sides.items() if commit is None]
    return [f"{', '.join(names)}: read from the files on disk when this page was written."] if names else []


def _table(caption: str, rows: Sequence[Compared], notes: Notes) -> str:
    return table(caption, _COLUMNS, [_row(row, notes) for row in rows])


def _row(row: Compared, notes: Notes) -> Row:
    _, *texts, words = map(escape, row_texts(row, notes))
    verdict = f'<span class="{escape(row.verdict)}">{_MARKS.get(row.verdict, "")}{words}</span>'
    return Row([escape(row.model), escape(row.dataset), *texts, verdict], row.dataset.rpartition("/")[2])
