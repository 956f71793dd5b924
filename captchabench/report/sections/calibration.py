"""Are confidences worth their name, and how much can be read if a mistake is to be rare?"""

from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, menus, numbers
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent, readers
from captchabench.studies.confidence import CALIBRATION, RISK

_WANTED = 0.01
# A share of fewer images is noise; the table has them all.
_FEWEST = 5
# Where a logarithmic axis ends: one wrong in a thousand.
_LEAST = 0.001


def section(findings: Findings, figures: Figures) -> str:
    """A reliability diagram and a risk-coverage curve of a dataset to choose, and the bins as numbers."""
    bins, risk = readers(findings.tables[CALIBRATION]), readers(findings.tables[RISK])
    first = findings.ranked[0].dataset
    places = [figures.following]
    reliability = figures.add(
        _reliability(bins, first, findings.readers),
        "Reliability: confidence of a bin against the share of it that is right. On the diagonal a confidence "
        "means what it says; below it a model is too sure. Larger marks hold more images; bins of fewer than "
        f"{_FEWEST} are not drawn.",
        "Reliability diagram of the dataset chosen, a line a model. " + _errors(findings),
        findings.source,
    )
    places.append(figures.following)
    coverage = figures.add(
        _coverage(risk, first, findings.readers),
        "Risk and coverage: the share of images read, surest first, against the share of them read wrong (log "
        "scale; the lowest value is 0.1 % or less). Below the dashed line 99 % are right.",
        "Risk-coverage curves of the dataset chosen, a line a model. " + _covered(findings),
        findings.source,
    )
    columns = [
        Column("model"),
        Column("dataset", words=True),
        Column("confidence from"),
        Column("to"),
        Column("mean"),
        Column("right"),
        Column("images"),
    ]
    rows = (
        Row(
            [
                escape(row["reader"]),
                escape(row["read"]),
                f"{row['bin_lo']:.3f}",
                f"{row['bin_hi']:.3f}",
                f"{row['confidence']:.3f}",
                TableCell(percent(row["exact"])),
                f"{row['n']:,}",
            ],
            row["read"],
        )
        for row in bins.sort("read", "reader", "bin_lo").iter_rows(named=True)
    )
    table = numbers("Bins of the reliability diagrams.", columns, rows)
    options = [ranking.dataset for ranking in findings.ranked]
    head = menus(places, {"dataset": options}, {"dataset": first}) + charts.legend(findings.readers)
    return f'{head}<div class="grid">{reliability}{coverage}</div>{table}'


def _errors(findings: Findings) -> str:
    """The best-calibrated reader of each dataset among those that read anything, in words."""
    said = []
    for ranking in findings.members:
        able = [row for row in ranking.rows if row["exact"] > 0]
        if able:
            best = min(able, key=lambda row: (row["ece"], row["reader"]))
            said.append(f"{ranking.dataset}: smallest calibration error {best['ece']:.3f}, {best['reader']}.")
    return " ".join(said)


def _covered(findings: Findings) -> str:
    said = []
    for ranking in findings.members:
        best = max(ranking.rows, key=lambda row: (row["coverage_99"], row["exact"]))
        said.append(f"{ranking.dataset}: at most {percent(best['coverage_99'])} at 99 % precision, {best['reader']}.")
    return " ".join(said)


def _of_dataset(table: pl.DataFrame, columns: list[str]) -> alt.Chart:
    """A chart of the dataset that the menu names. A table of text is a quarter of a list of objects."""
    shown = table.select(pl.col("read").alias("dataset"), "reader", *columns)
    parse = dict.fromkeys(columns, "number")
    data = alt.InlineData(values=shown.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
    return alt.Chart(data).transform_filter("datum.dataset === dataset")


def _reliability(bins: pl.DataFrame, dataset: str, names: list[str]) -> dict[str, Any]:
    channels = charts.of_reader(names)
    enough = bins.filter(pl.col("n") >= _FEWEST).sort("read", "reader", "confidence")
    most = max(enough["n"], default=1)
    base = _of_dataset(enough, ["n", "exact", "confidence"]).encode(
        x=charts.share_axis("mean confidence", alt.X, "confidence"),
        y=charts.share_axis("right", alt.Y, "exact"),
        color=channels["color"],
    )
    points = base.mark_point(filled=True, opacity=1).encode(
        shape=channels["shape"],
        size=alt.Size("n:Q", scale=alt.Scale(domain=[0, most], range=[24, 240]), legend=None),
        tooltip=[
            alt.Tooltip("reader:N"),
            alt.Tooltip("confidence:Q", format=".1%"),
            alt.Tooltip("exact:Q", format=".1%", title="right"),
            alt.Tooltip("n:Q", title="images"),
        ],
    )
    lines = base.mark_line(opacity=0.6)
    both = alt.layer(_diagonal(), lines, points).add_params(charts.menu("dataset", dataset))
    return charts.finished(both, height=300)


def _diagonal() -> alt.Chart:
    ends = alt.InlineData(values=[{"confidence": 0, "exact": 0}, {"confidence": 1, "exact": 1}])
    return (
        alt.Chart(ends)
        .mark_line(strokeDash=[4, 4], opacity=0.5)
        .encode(x="confidence:Q", y="exact:Q", color=alt.value("currentColor"))
    )


def _coverage(risk: pl.DataFrame, dataset: str, names: list[str]) -> dict[str, Any]:
    wrong = risk.with_columns(risk=(1 - pl.col("precision")).clip(_LEAST).round(6))
    scale = alt.Scale(type="log", domain=[_LEAST, 1], nice=False)
    axis = alt.Axis(format="~%", values=[0.001, 0.01, 0.1, 1])
    curve = (
        _of_dataset(wrong, ["coverage", "precision", "risk", "threshold"])
        # Every cut is an image or more: nothing is known in between.
        .mark_line(interpolate="step-before")
        .encode(
            x=charts.share_axis("images read (coverage)", alt.X, "coverage"),
            y=alt.Y("risk:Q", title="of them wrong (risk)", scale=scale, axis=axis),
            color=charts.of_reader(names)["color"],
            tooltip=[
                alt.Tooltip("reader:N"),
                alt.Tooltip("coverage:Q", format=".1%"),
                alt.Tooltip("precision:Q", format=".2%"),
                alt.Tooltip("threshold:Q", format=".4f", title="confidence at least"),
            ],
        )
    )
    wanted = (
        alt.Chart(alt.InlineData(values=[{"risk": _WANTED}]))
        .mark_rule(strokeDash=[4, 4], opacity=0.7)
        .encode(y="risk:Q", color=alt.value("currentColor"))
    )
    return charts.finished(alt.layer(wanted, curve).add_params(charts.menu("dataset", dataset)), height=300)


SECTION = Section(80, "calibration", "Confidence", "What a confidence is worth", section, tables=(CALIBRATION, RISK))
