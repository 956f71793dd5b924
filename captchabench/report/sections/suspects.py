"""Labels that may be wrong: for a person to look at."""

from html import escape

import polars as pl

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, menus, table, tag
from captchabench.report.pictures import SUSPECTS_SHOWN
from captchabench.report.sections.base import Section
from captchabench.report.tables import Ranking
from captchabench.studies.label_errors import SUSPECTS

_COLUMNS = (
    Column("file"),
    Column("image", words=True),
    Column("label", words=True),
    Column("read as", words=True),
    Column("score"),
    Column("models that say so", words=True),
)


def section(findings: Findings, _: Figures) -> str:
    """A panel a dataset: its first suspects, with their images."""
    datasets = [ranking.dataset for ranking in findings.members]
    suspected = set(findings.tables[SUSPECTS]["dataset"])
    first = next((dataset for dataset in datasets if dataset in suspected), datasets[0])
    chooser = menus(["suspects"], {"dataset": datasets}, {"dataset": first})
    panels = "".join(_panel(findings, ranking, shown=ranking.dataset == first) for ranking in findings.members)
    return (
        "<p>Images whose label is contradicted, with confidence, by models trained without them (confident learning on "
        "out-of-fold predictions). The score is by how much they prefer their reading; it is no proof.</p>"
        f'{chooser}<div id="suspects">{panels}</div>'
    )


def _panel(findings: Findings, ranking: Ranking, *, shown: bool) -> str:
    mine = findings.tables[SUSPECTS].filter(pl.col("dataset") == ranking.dataset)
    rows = [
        Row(
            [
                escape(row["name"]),
                f'<img data-picture="{escape(row["sample_id"])}" alt="labelled {escape(row["label"])}">',
                f"<code>{escape(row['label'])}</code>",
                f"<code>{escape(row['reading'])}</code>",
                TableCell(f"{row['score']:.3f}", row["score"]),
                escape(row["models"]),
            ]
        )
        for row in mine.head(SUSPECTS_SHOWN).iter_rows(named=True)
    ]
    if rows:
        listed = f"{escape(ranking.dataset)}: {len(rows)} of {mine.height} listed in metrics/suspects.csv."
        text = table(f"{listed} {tag(ranking.source)}", _COLUMNS, rows)
    else:
        text = f'<p class="soft">No label of {escape(ranking.dataset)} is suspected.</p>'
    hidden = "" if shown else " hidden"
    shape = f'style="--shape: {findings.shape(ranking.dataset)}"'
    return f'<div data-panel="{escape(ranking.dataset)}" {shape}{hidden}>{text}</div>'


SECTION = Section(130, "labels", "Labels", "Labels that may be wrong", section, tables=(SUSPECTS,))
