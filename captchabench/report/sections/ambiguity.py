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
    Column("ceiling, case-folded"),
    Column("best, case-folded"),
)


def section(findings: Findings, _: Figures) -> str:
    """The ceiling of each dataset and the best result, side by side."""
    if findings.tables[AMBIGUITY].is_empty():
        return (
            '<p class="soft">The ceiling is known only for stand-ins, since only their fonts are available. '
            "The confusion matrix shows which symbols are mistaken for each other.</p>"
        )
    rows = []
    for row in findings.tables[AMBIGUITY].iter_rows(named=True):
        results = next(ranking for ranking in findings.ranked if ranking.dataset == row["dataset"])
        pairs = " ".join(f"<code>{escape(pair)}</code>" for pair in row["pairs"].split())
        best = [max(r[name] for r in results.rows) for name in ("exact", "exact_folded")]
        ceilings = [row["ceiling_exact"], row["ceiling_exact_folded"]]
        shares = [TableCell(percent(s), s) for pair in zip(ceilings, best, strict=True) for s in pair]
        rows.append(Row([escape(row["dataset"]), pairs or "none", *shares], row["dataset"]))
    caption = (
        "Some fonts draw two symbols alike, and then even a perfect reader can only guess. The ceiling is the exact "
        f"match of such a reader. {tag(findings.source)}"
    )
    return table(caption, _COLUMNS, rows)


SECTION = Section(120, "ambiguity", "Ceiling", "The highest exact match possible", section, tables=(AMBIGUITY,))
