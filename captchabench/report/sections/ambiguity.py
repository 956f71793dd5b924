"""The ceiling of exact match on datasets whose fonts draw two symbols alike."""

from html import escape

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent
from captchabench.studies.ambiguity import AMBIGUITY

_COLUMNS = (
    Column("dataset"),
    Column("symbols drawn alike", words=True),
    Column("ceiling, exact"),
    Column("best, exact"),
    Column("share of the ceiling"),
    Column("ceiling, case-folded"),
    Column("best, case-folded"),
    Column("how it was found", words=True),
)


def section(findings: Findings, _: Figures) -> str:
    """The ceiling of each dataset and the best result, side by side."""
    if findings.tables[AMBIGUITY].is_empty():
        return (
            '<p class="soft">The ceiling is known only where the fonts are: of stand-ins, and of archives of a known '
            "generator. The confusion matrix shows which symbols are mistaken for each other.</p>"
        )
    rows = []
    for row in findings.tables[AMBIGUITY].iter_rows(named=True):
        results = next(ranking for ranking in findings.ranked if ranking.dataset == row["dataset"])
        pairs = " ".join(f"<code>{escape(pair)}</code>" for pair in row["pairs"].split())
        best = [max(r[name] for r in results.rows) for name in ("exact", "exact_folded")]
        exact, folded = row["ceiling_exact"], row["ceiling_exact_folded"]
        shares = [TableCell(percent(s), s) for s in (exact, best[0], best[0] / exact, folded, best[1])]
        rows.append(Row([escape(row["dataset"]), pairs or "none", *shares, escape(row["basis"])], row["dataset"]))
    caption = (
        "Some fonts draw two symbols as the same pixels, and then even a perfect reader can only guess. The ceiling is "
        "the expected exact match of such a reader; symbols that only look alike do not lower it. "
        f"{tag(findings.source)}"
    )
    return table(caption, _COLUMNS, rows)


SECTION = Section(120, "ambiguity", "Ceiling", "The highest exact match possible", section, tables=(AMBIGUITY,))
