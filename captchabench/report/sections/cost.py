"""What accuracy costs: parameters, operations and time."""

from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.datasets import UNION
from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, menus, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent, readers
from captchabench.studies.cost import COST, SPEED

_DRAWN = {
    "latency_ms": "milliseconds to read a single image",
    "flops": "floating-point operations per image",
}


def section(findings: Findings, figures: Figures) -> str:
    """Accuracy against cost for the selected dataset, and a table of all costs with the device."""
    joined = _joined(findings)
    first = findings.ranked[0].dataset
    targets, drawn = [], []
    for measure, title in _DRAWN.items():
        # A cost that is unknown for all models has no chart.
        if joined[measure].is_null().all():
            continue
        targets.append(figures.following)
        drawn.append(
            figures.add(
                _chart(joined, measure, title, first, findings.readers),
                f"Exact match with its 95 % interval against {title} (log scale). Up and left is better.",
                f"Scatter plot: exact match against {title}, for the selected dataset. "
                "The table below has all numbers.",
                findings.source,
            )
        )
    options = [ranking.dataset for ranking in findings.ranked]
    chooser = menus(targets, {"dataset": options}, {"dataset": first})
    if not drawn:
        return _table(findings, joined)
    head = chooser + charts.legend(findings.readers)
    return f'{head}<div class="grid">{"".join(drawn)}</div>{_table(findings, joined)}'


def _joined(findings: Findings) -> pl.DataFrame:
    """The leaderboard with the cost of each row's model. The members of union have the cost of the model of union."""
    trained = pl.when(pl.col("dataset").str.starts_with(f"{UNION}/")).then(pl.lit(UNION)).otherwise("dataset")
    board = findings.board.select("dataset", "model", "n", "exact", "exact_lo", "exact_hi")
    cost = (
        findings.tables[COST]
        .join(findings.tables[SPEED], on=["dataset", "model"], how="left")
        .rename({"dataset": "trained_on"})
    )
    return readers(board).with_columns(trained_on=trained).join(cost, on=["trained_on", "model"], how="left")


def _chart(joined: pl.DataFrame, measure: str, title: str, dataset: str, names: list[str]) -> dict[str, Any]:
    shown = (
        joined.filter(pl.col(measure) > 0)
        .sort("read", "reader")
        .select(pl.col("read").alias("dataset"), "reader", measure, "exact", "exact_lo", "exact_hi")
    )
    channels = charts.of_reader(names)
    base = (
        alt.Chart(alt.InlineData(values=shown.to_dicts()))
        .transform_filter("datum.dataset === dataset")
        .encode(
            x=alt.X(
                f"{measure}:Q",
                title=f"{title} (log scale)",
                scale=alt.Scale(type="log", nice=False, padding=24),
                axis=alt.Axis(format="~s", tickCount=5),
            ),
            color=channels["color"],
        )
    )
    rules = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        y=charts.share_axis("exact match", alt.Y, "exact_lo"), y2="exact_hi:Q"
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        y=charts.share_axis("exact match", alt.Y, "exact"),
        shape=channels["shape"],
        tooltip=[
            alt.Tooltip("reader:N", title="model"),
            alt.Tooltip(f"{measure}:Q", format=".3~s", title=title),
            alt.Tooltip("exact:Q", format=".2%", title="exact match"),
        ],
    )
    both = alt.layer(rules, points).add_params(charts.menu("dataset", dataset))
    return charts.finished(both, height=260)


def _table(findings: Findings, joined: pl.DataFrame) -> str:
    columns = [
        Column("model"),
        Column("dataset", words=True),
        Column("exact", first="descending"),
        Column("parameters"),
        Column("FLOPs"),
        Column("kB"),
        Column("training, s"),
        Column("images/s", first="descending"),
        Column("ms, single image"),
        Column("measured on"),
    ]
    rows = []
    for ranking in findings.ranked:
        costs = joined.filter(pl.col("read") == ranking.dataset).sort(["exact", "reader"], descending=[True, False])
        rows += [_row(row) for row in costs.iter_rows(named=True)]
    caption = (
        "FLOPs: floating-point operations per image. kB: size on disk. images/s: read in batches. Times were measured "
        "on the device in the last column and vary from run to run; the other numbers do not. "
        f"{tag(findings.source)}"
    )
    return table(caption, columns, rows, sortable=True)


def _row(row: dict[str, Any]) -> Row:
    return Row(
        [
            escape(row["reader"]),
            escape(row["read"]),
            TableCell(percent(row["exact"]), row["exact"]),
            _number(row["parameters"], ",.0f"),
            _number(row["flops"], ".3g", scale=1e-6, unit="&nbsp;M"),
            _number(row["bytes_on_disk"], ",.0f", scale=1e-3),
            _number(row["train_seconds"], ",.1f"),
            _number(row["images_per_second"], ",.0f"),
            _number(row["latency_ms"], ".2f"),
            f"<small>{escape(machine(row))}</small>",
        ],
        row["read"],
    )


def _number(value: float | None, form: str, *, scale: float = 1.0, unit: str = "") -> TableCell:
    return TableCell("–") if value is None else TableCell(f"{value * scale:{form}}{unit}", value)


def machine(row: dict[str, Any]) -> str:
    """Device, number of threads and version of torch of a row of `SPEED`, as far as they are known."""
    if not row["device"]:
        return "–"
    torch = f", torch {row['torch']}" if row["torch"] else ""
    return f"{row['device']}, {row['threads']} thread{'s' * (row['threads'] != 1)}{torch}"


SECTION = Section(90, "cost", "Cost", "What accuracy costs", section, tables=(COST, SPEED))
