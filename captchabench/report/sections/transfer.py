"""Transfer: exact match of a model trained on one dataset and tested on another."""

from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, numbers
from captchabench.report.sections.base import Section
from captchabench.report.tables import interval, percent
from captchabench.studies.transfer import TRANSFER_TABLE


def section(findings: Findings, figures: Figures) -> str:
    """One heat map per model: training dataset down, test dataset across; empty if the alphabet lacks symbols."""
    if findings.tables[TRANSFER_TABLE].is_empty():
        return '<p class="soft">No model was tested on another dataset.</p>'
    known = set(findings.tables[TRANSFER_TABLE]["model"])
    models = [model for model in findings.readers if model in known]
    maps = "".join(_map(findings, model, figures) for model in models)
    table = numbers("Exact match by training and test dataset.", _COLUMNS, map(_row, _rows(findings)))
    return (
        "<p>Rows: the dataset that the model was trained on. Columns: the dataset that it read. Empty: that dataset "
        f'has symbols that the model does not know.</p><div class="grid three">{maps}</div>{table}'
    )


# In pixels.
_ROW_HEIGHT = 34
_COLUMNS = (
    Column("model"),
    Column("trained on", words=True),
    Column("read", words=True),
    Column("exact"),
    Column("95 %"),
    Column("case-folded"),
    Column("CER"),
    Column("images"),
)


def _rows(findings: Findings) -> list[dict[str, Any]]:
    return findings.tables[TRANSFER_TABLE].sort("model", "trained_on", "read").to_dicts()


def _row(row: dict[str, Any]) -> Row:
    return Row(
        [
            escape(row["model"]),
            escape(row["trained_on"]),
            escape(row["read"]),
            TableCell(percent(row["exact"])),
            interval(row),
            percent(row["exact_folded"]),
            percent(row["cer"]),
            f"{row['n']:,}",
        ]
    )


def _map(findings: Findings, model: str, figures: Figures) -> str:
    results = findings.tables[TRANSFER_TABLE].filter(pl.col("model") == model)
    away = results.filter(pl.col("trained_on") != pl.col("read")).sort("exact", descending=True)
    listed = "; ".join(
        f"trained on {row['trained_on']}, reads {percent(row['exact'])} of {row['read']}"
        for row in away.iter_rows(named=True)
    )
    return figures.add(
        _chart(results, list(findings.params.matrix.datasets)),
        f"{model}, exact match.",
        f"Heat map of {model}. {listed or 'It was tested only on the dataset that it was trained on'}.",
        findings.source,
    )


def _chart(transfer: pl.DataFrame, datasets: list[str]) -> dict[str, Any]:
    trained = [*datasets, *sorted(set(transfer["trained_on"]) - set(datasets))]
    shown = transfer.select("trained_on", "read", "n", "exact", "exact_lo", "exact_hi")
    tooltip = [
        alt.Tooltip("trained_on:N", title="trained on"),
        alt.Tooltip("read:N"),
        alt.Tooltip("exact:Q", format=".2%", title="exact match"),
        alt.Tooltip("exact_lo:Q", format=".2%", title="95 % from"),
        alt.Tooltip("exact_hi:Q", format=".2%", title="95 % to"),
        alt.Tooltip("n:Q", title="images"),
    ]
    base = alt.Chart(alt.InlineData(values=shown.to_dicts())).encode(
        x=alt.X(
            "read:N",
            title="reads",
            scale=alt.Scale(domain=datasets),
            axis=alt.Axis(labelAngle=0, orient="top", ticks=False, domain=False),
        ),
        y=alt.Y(
            "trained_on:N",
            title="trained on",
            scale=alt.Scale(domain=trained),
            axis=alt.Axis(ticks=False, domain=False),
        ),
        tooltip=tooltip,
    )
    cells = base.mark_rect(cornerRadius=3, stroke="transparent", strokeWidth=2).encode(
        color=alt.Color("exact:Q", scale=charts.shade(*charts.BLUES, domain=[0, 1]), legend=None)
    )
    figures = (
        base.transform_calculate(ink=charts.ink_on_blues("exact"))
        .mark_text(fontSize=12)
        .encode(text=alt.Text("exact:Q", format=".1%"), color=alt.Color("ink:N", scale=None))
    )
    # The layers have separate scales: the colour of the text is a value, not data.
    both = alt.layer(cells, figures).resolve_scale(color="independent").add_params(charts.DARK)
    return charts.finished(both, height=_ROW_HEIGHT * len(trained))


SECTION = Section(60, "transfer", "Transfer", "Transfer between datasets", section, tables=(TRANSFER_TABLE,))
