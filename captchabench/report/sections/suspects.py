"""Labels that may be wrong, with their images, for a person to check."""

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
    Column("rank"),
    Column("models that read this", words=True),
)


def section(findings: Findings, _: Figures) -> str:
    """One panel per dataset with its first suspects and their images."""
    datasets = [ranking.dataset for ranking in findings.members]
    suspected = set(findings.tables[SUSPECTS]["dataset"])
    first = next((dataset for dataset in datasets if dataset in suspected), datasets[0])
    chooser = menus(["suspects"], {"dataset": datasets}, {"dataset": first})
    panels = "".join(_panel(findings, ranking, shown=ranking.dataset == first) for ranking in findings.members)
    return (
        "<p>Images that models confidently read as something else than their label (confident learning). None of these "
        "models was trained on the image. They are ranked by the probability that the models give to their reading, "
        "less that of the label, averaged over the models. A rank is no probability of an error: a suspect may be just "
        "hard to read, so look at the image. Of errors planted in real images nearly all are found; how many suspects "
        "are errors depends on the models: docs/label_errors.md.</p>"
        f'{chooser}<div id="suspects">{panels}</div>'
    )


def _panel(findings: Findings, ranking: Ranking, *, shown: bool) -> str:
    listed = findings.tables[SUSPECTS].filter(pl.col("dataset") == ranking.dataset)
    rows = [
        Row(
            [
                escape(row["name"]),
                f'<img data-picture="{escape(row["sample_id"])}" alt="labelled {escape(row["label"])}">',
                f"<code>{escape(row['label'])}</code>",
                f"<code>{escape(row['reading'])}</code>",
                TableCell(str(row["rank"]), row["rank"]),
                f"{row['agreeing']} of {row['readers']}: {escape(row['models'])}",
            ]
        )
        for row in listed.head(SUSPECTS_SHOWN).iter_rows(named=True)
    ]
    if rows:
        caption = f"{escape(ranking.dataset)}: {len(rows)} of the {listed.height} in suspects.csv."
        text = table(f"{caption} {tag(ranking.source)}", _COLUMNS, rows)
    else:
        text = f'<p class="soft">No label of {escape(ranking.dataset)} is suspected.</p>'
    hidden = "" if shown else " hidden"
    shape = f'style="--shape: {findings.shape(ranking.dataset)}"'
    return f'<div data-panel="{escape(ranking.dataset)}" {shape}{hidden}>{text}</div>'


SECTION = Section(130, "labels", "Labels", "Labels that may be wrong", section, tables=(SUSPECTS,))
