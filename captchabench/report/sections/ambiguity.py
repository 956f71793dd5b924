"""How much can be read at all, where a font draws two symbols alike."""

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
    Column("ceiling of exact"),
    Column("best exact"),
    Column("ceiling, case-folded"),
    Column("best, case-folded"),
)


def section(findings: Findings, _: Figures) -> str:
    """The ceiling of each dataset beside the best result."""
    if findings.tables[AMBIGUITY].is_empty():
        return (
            '<p class="soft">What a dataset draws alike is known of stand-ins alone, whose fonts are at hand. '
            "The confusion matrix shows the pairs that are mistaken for each other.</p>"
        )
    rows = []
    for row in findings.tables[AMBIGUITY].iter_rows(named=True):
        mine = next(ranking for ranking in findings.ranked if ranking.dataset == row["dataset"])
        pairs = " ".join(f"<code>{escape(pair)}</code>" for pair in row["pairs"].split())
        best = [max(r[name] for r in mine.rows) for name in ("exact", "exact_folded")]
        ceilings = [row["ceiling_exact"], row["ceiling_exact_folded"]]
        shares = [TableCell(percent(s), s) for pair in zip(ceilings, best, strict=True) for s in pair]
        rows.append(Row([escape(row["dataset"]), pairs or "none", *shares], row["dataset"]))
    caption = (
        "What a reader who knows the fonts, and guesses where two symbols look the same, gets right at most. "
        f"{tag(findings.source)}"
    )
    return table(caption, _COLUMNS, rows)


SECTION = Section(120, "ambiguity", "Ceiling", "What can be read at all", section, tables=(AMBIGUITY,))
