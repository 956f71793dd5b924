"""Calibration of the confidence, and the share of images that can be read at a given error rate."""

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

# The error rate of the dashed line.
_TARGET_RISK = 0.01
# Bins of fewer images are too noisy to draw. The table has all bins.
_LEAST_IMAGES = 5
# Lower end of the logarithmic axis: one error in a thousand.
_LEAST_RISK = 0.001


def section(findings: Findings, figures: Figures) -> str:
    """A reliability diagram and a risk-coverage curve of the selected dataset, and a table of the bins."""
    bins, risk = readers(findings.tables[CALIBRATION]), readers(findings.tables[RISK])
    first = findings.ranked[0].dataset
    targets = [figures.following]
    reliability = figures.add(
        _reliability(bins, first, findings.readers),
        "Reliability: images in bins by confidence, and the share of each bin that was read right. On the diagonal the "
        "two are equal; below it the model is overconfident. Larger marks stand for more images; bins of fewer than "
        f"{_LEAST_IMAGES} are not drawn.",
        "Reliability diagram of the selected dataset, one line per model. " + _calibration_errors(findings),
        findings.source,
    )
    targets.append(figures.following)
    coverage = figures.add(
        _coverage(risk, first, findings.readers),
        "Risk and coverage: if only the most confident readings are accepted, the share accepted (coverage) and the "
        "share of those that are wrong (risk, log scale, drawn as 0.1 % if it is lower). Below the dashed line, "
        "at least 99 % are right.",
        "Risk-coverage curves of the selected dataset, one line per model. " + _coverages(findings),
        findings.source,
    )
    columns = [
        Column("model"),
        Column("dataset", words=True),
        Column("bin from"),
        Column("bin to"),
        Column("mean confidence"),
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
    table = numbers("The bins of the reliability diagrams.", columns, rows)
    options = [ranking.dataset for ranking in findings.ranked]
    head = menus(targets, {"dataset": options}, {"dataset": first}) + charts.legend(findings.readers)
    intro = (
        "<p>The confidence of a reading is the probability that the model gives to the whole text. If it is well "
        "calibrated, 90 % of the readings with confidence 0.9 are right.</p>"
    )
    return f'{intro}{head}<div class="grid">{reliability}{coverage}</div>{table}'


def _calibration_errors(findings: Findings) -> str:
    """One sentence per dataset: its best-calibrated reader among those that read at least one image right."""
    sentences = []
    for ranking in findings.members:
        able = [row for row in ranking.rows if row["exact"] > 0]
        if able:
            best = min(able, key=lambda row: (row["ece"], row["reader"]))
            sentences.append(f"{ranking.dataset}: smallest calibration error {best['ece']:.3f}, {best['reader']}.")
    return " ".join(sentences)


def _coverages(findings: Findings) -> str:
    """One sentence per dataset: the highest coverage at 99 % precision."""
    sentences = []
    for ranking in findings.members:
        best = max(ranking.rows, key=lambda row: (row["coverage_99"], row["exact"]))
        share = percent(best["coverage_99"])
        sentences.append(f"{ranking.dataset}: highest coverage at 99 % precision {share}, {best['reader']}.")
    return " ".join(sentences)


def _of_dataset(table: pl.DataFrame, columns: list[str]) -> alt.Chart:
    """A chart of the selected dataset. As CSV the data has a quarter of the size of a list of objects."""
    shown = table.select(pl.col("read").alias("dataset"), "reader", *columns)
    parse = dict.fromkeys(columns, "number")
    data = alt.InlineData(values=shown.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
    return alt.Chart(data).transform_filter("datum.dataset === dataset")


def _reliability(bins: pl.DataFrame, dataset: str, names: list[str]) -> dict[str, Any]:
    channels = charts.of_reader(names)
    enough = bins.filter(pl.col("n") >= _LEAST_IMAGES).sort("read", "reader", "confidence")
    most = max(enough["n"], default=1)
    base = _of_dataset(enough, ["n", "exact", "confidence"]).encode(
        x=charts.share_axis("mean confidence", alt.X, "confidence"),
        y=charts.share_axis("read right", alt.Y, "exact"),
        color=channels["color"],
    )
    points = base.mark_point(filled=True, opacity=1).encode(
        shape=channels["shape"],
        size=alt.Size("n:Q", scale=alt.Scale(domain=[0, most], range=[24, 240]), legend=None),
        tooltip=[
            alt.Tooltip("reader:N", title="model"),
            alt.Tooltip("confidence:Q", format=".1%", title="mean confidence"),
            alt.Tooltip("exact:Q", format=".1%", title="read right"),
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
    wrong = risk.with_columns(risk=(1 - pl.col("precision")).clip(_LEAST_RISK).round(6))
    scale = alt.Scale(type="log", domain=[_LEAST_RISK, 1], nice=False)
    axis = alt.Axis(format="~%", values=[0.001, 0.01, 0.1, 1])
    curve = (
        _of_dataset(wrong, ["coverage", "precision", "risk", "threshold"])
        # Coverage grows by whole images, so the curve has steps.
        .mark_line(interpolate="step-before")
        .encode(
            x=charts.share_axis("coverage: readings accepted", alt.X, "coverage"),
            y=alt.Y("risk:Q", title="risk: accepted but wrong", scale=scale, axis=axis),
            color=charts.of_reader(names)["color"],
            tooltip=[
                alt.Tooltip("reader:N", title="model"),
                alt.Tooltip("coverage:Q", format=".1%"),
                alt.Tooltip("precision:Q", format=".2%"),
                alt.Tooltip("threshold:Q", format=".4f", title="least confidence accepted"),
            ],
        )
    )
    target = (
        alt.Chart(alt.InlineData(values=[{"risk": _TARGET_RISK}]))
        .mark_rule(strokeDash=[4, 4], opacity=0.7)
        .encode(y="risk:Q", color=alt.value("currentColor"))
    )
    return charts.finished(alt.layer(target, curve).add_params(charts.menu("dataset", dataset)), height=300)


SECTION = Section(
    80, "calibration", "Confidence", "Can the confidence be trusted?", section, tables=(CALIBRATION, RISK)
)
