"""Confusions: which character is read as which, and in grids, which class of tile."""

import json
from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, menus, table, tag
from captchabench.report.sections.base import Section
from captchabench.scoring.alignment import DELETED, INSERTED
from captchabench.scoring.leaderboard import CONFUSIONS, OTHER

_PAIRS_SHOWN = 6
# Small enough for sixty symbols.
_LABELS: dict[str, Any] = {
    "labelFontSize": 9,
    "labelExpr": f"datum.value === '{DELETED}' || datum.value === '{INSERTED}' ? '∅' : datum.value",
}


def section(findings: Findings, figures: Figures) -> str:
    """The most frequent mistakes of the best models, and the confusion matrix of the selected dataset and model."""
    rows = []
    for ranking in findings.ranked:
        model = _best(findings, ranking.dataset)
        pairs = (
            findings.tables[CONFUSIONS]
            .filter(
                (pl.col("dataset") == ranking.dataset)
                & (pl.col("model") == model)
                & (pl.col("actual") != pl.col("predicted"))
                & (pl.col("predicted") != OTHER)
            )
            .sort(["count", "actual", "predicted"], descending=[True, False, False])
        )
        shown = [_pair(*pair) for pair in pairs.head(_PAIRS_SHOWN).select("actual", "predicted", "count").rows()]
        rows.append(Row([escape(ranking.dataset), escape(model), " &ensp; ".join(shown) or "nothing"], ranking.dataset))
    columns = [Column("dataset"), Column("best model", words=True), Column("its most frequent mistakes", words=True)]
    first = findings.ranked[0].dataset
    selected = {"dataset": first, "model": _best(findings, first)}
    options = {name: findings.tables[CONFUSIONS][name].unique().sort().to_list() for name in selected}
    chooser = menus([figures.following], options, selected)
    chart = figures.add(
        _chart(findings.tables[CONFUSIONS], selected, [ranking.dataset for ranking in findings.grids]),
        "Each row is an actual character (in grids, a class of tile), each column what it was read as. The colour is "
        "the share of the row's characters that were read so; grey: read right. The last column (∅) holds characters "
        "that were missed, the last row (∅) characters that were read where there are none.",
        "Confusion matrix of the dataset and model selected above: actual characters down, what they were read as "
        "across. The table above it names the most frequent mistakes.",
        findings.source,
    )
    listed = table(f"Actual character → character read, and how often. {tag(findings.source)}", columns, rows)
    return f'{listed}{chooser}<div class="narrow">{chart}</div>'


def _best(findings: Findings, dataset: str) -> str:
    """The best model of those trained on `dataset` alone."""
    ranking = next(r for r in findings.ranked if r.dataset == dataset)
    return str(next((row for row in ranking.rows if row["dataset"] == dataset), ranking.rows[0])["model"])


def _pair(actual: str, predicted: str, count: int) -> str:
    if predicted == DELETED:
        return f"<code>{escape(actual)}</code>&nbsp;missed&nbsp;{count}×"
    if actual == INSERTED:
        return f"<code>{escape(predicted)}</code>&nbsp;inserted&nbsp;{count}×"
    return f"<code>{escape(actual)}</code>→<code>{escape(predicted)}</code>&nbsp;{count}×"


def _chart(confusions: pl.DataFrame, selected: dict[str, str], grids: list[str]) -> dict[str, Any]:
    """A mistake is coloured by its share of the actual character's occurrences, an insertion by its number per
    occurrence of the inserted character. The names of classes of `grids` are slanted: they are too long to be
    horizontal."""
    cell = ["dataset", "model"]
    support = (
        confusions.filter(pl.col("actual") != INSERTED)
        .group_by(*cell, pl.col("actual").alias("symbol"))
        .agg(pl.col("count").sum().alias("support"))
    )
    symbol = pl.when(pl.col("actual") == INSERTED).then("predicted").otherwise("actual").alias("symbol")
    mistaken = pl.col("actual") != pl.col("predicted")
    # A character that occurs in no label can be inserted too.
    share = (pl.col("count") / pl.col("support").fill_null(1)).clip(0, 1).round(5)
    shown = (
        confusions.filter(pl.col("predicted") != OTHER)
        .with_columns(symbol)
        .join(support, on=[*cell, "symbol"], how="left", maintain_order="left")
        # Correct readings have no share, so that the colour scale covers mistakes only.
        .with_columns(pl.when(mistaken).then(share).alias("share"))
        .select(*cell, "actual", "predicted", "count", "share")
    )
    # As CSV the data has a quarter of the size of a list of objects.
    parse = {"count": "number", "share": "number"}
    data = alt.InlineData(values=shown.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
    symbols = sorted({*shown["actual"], *shown["predicted"]}, key=lambda s: (len(s), s))
    turned = alt.ExprRef(f"indexof({json.dumps(grids)}, dataset) < 0 ? 0 : -40")
    chart = (
        alt.Chart(data)
        .transform_filter("datum.dataset === dataset && datum.model === model")
        .mark_rect(invalid=None)
        .encode(
            x=alt.X(
                "predicted:N", title="read as", sort=symbols, axis=alt.Axis(orient="top", labelAngle=turned, **_LABELS)
            ),
            y=alt.Y("actual:N", title="actual", sort=symbols, axis=alt.Axis(labelAngle=0, **_LABELS)),
            color=alt.condition(
                "datum.actual === datum.predicted",
                alt.value("#88888833"),
                alt.Color(
                    "share:Q",
                    title="share of the actual character",
                    scale=charts.shade(*charts.REDS, type="sqrt"),
                    legend=alt.Legend(format=".1%", tickCount=3, orient="bottom", direction="horizontal"),
                ),
            ),
            tooltip=["actual:N", "predicted:N", "count:Q", alt.Tooltip("share:Q", format=".2%")],
        )
        .add_params(charts.DARK, *(charts.menu(name, value) for name, value in selected.items()))
    )
    return charts.finished(chart, height=620)


SECTION = Section(40, "mistakes", "Confusion", "What is mistaken for what", section, tables=(CONFUSIONS,))
