"""How well models trained on stand-ins read the images that the stand-ins imitate."""

from html import escape
from typing import Any

from captchabench.datasets import UNION
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import interval, percent
from captchabench.studies.carry import CARRY

_COLUMNS = (
    Column("archive of"),
    Column("model"),
    Column("trained on", words=True),
    Column("fold"),
    Column("exact, stand-ins"),
    Column("exact, archive"),
    Column("95 %"),
    Column("case-folded, archive"),
    Column("CER, archive"),
    Column("images"),
)


def section(findings: Findings, _: Figures) -> str:
    """One row per model and archive: held-out stand-ins beside the archive's images."""
    if findings.tables[CARRY].is_empty():
        return (
            '<p class="soft">This table compares stand-ins with the images that they imitate. It is filled when the '
            "models are trained on stand-ins and an archive of their dataset lies in <code>data.downloads</code>.</p>"
        )
    known = {(row["dataset"], row["model"]): row["exact"] for row in findings.board.iter_rows(named=True)}
    rows = [_row(row, known) for row in findings.tables[CARRY].iter_rows(named=True)]
    caption = f"No model here has seen an image of the archive. {tag('archive')}"
    return table(caption, _COLUMNS, rows, sortable=True)


def _row(row: dict[str, Any], known: dict[tuple[str, str], float]) -> Row:
    own = row["read"] if row["trained_on"] != UNION else f"{UNION}/{row['read']}"
    drawn = known[own, row["model"]]
    return Row(
        [
            escape(row["read"]),
            escape(row["model"]),
            escape(row["trained_on"]),
            str(row["fold"]),
            TableCell(percent(drawn), drawn),
            TableCell(percent(row["exact"]), row["exact"]),
            interval(row),
            TableCell(percent(row["exact_folded"]), row["exact_folded"]),
            TableCell(percent(row["cer"]), row["cer"]),
            TableCell(f"{row['n']:,}", row["n"]),
        ],
        row["read"],
    )


SECTION = Section(65, "carry", "Carry", "How far the stand-ins carry", section, tables=(CARRY,))
