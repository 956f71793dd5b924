"""Robustness: exact match on corrupted images."""

from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, menus, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent, readers
from captchabench.studies.robustness import ROBUSTNESS

_CLEAN, _MEAN = "clean", "mean"


def section(findings: Findings, figures: Figures) -> str:
    """One chart per corruption for the selected dataset, and a table of the mean relative drops."""
    results = readers(findings.tables[ROBUSTNESS])
    kinds = [kind for kind in results["corruption"].unique().sort().to_list() if kind not in (_CLEAN, _MEAN)]
    if not kinds:
        return '<p class="soft">No corruption was tried.</p>'
    first = findings.ranked[0].dataset
    options = [ranking.dataset for ranking in findings.ranked if ranking.dataset in set(results["read"])]
    targets, drawn = [], []
    for kind in kinds:
        targets.append(figures.following)
        drawn.append(
            figures.add(
                _chart(results, kind, first, findings.readers),
                f"{kind}.",
                f"Exact match by strength of {kind}, from clean to 3, one line per model. "
                + _largest_drop(results, kind),
                findings.source,
            )
        )
    chooser = menus(targets, {"dataset": options}, {"dataset": first})
    head = chooser + charts.legend(findings.readers)
    intro = (
        f"<p>The models read up to {findings.params.probe.images:,} images of each held-out fold, unchanged (clean) "
        "and with each corruption at three strengths.</p>"
    )
    return f'{intro}{head}<div class="grid three">{"".join(drawn)}</div>{_drops(findings, results, kinds)}'


def _largest_drop(results: pl.DataFrame, kind: str) -> str:
    """The largest relative drop under one corruption, as a sentence."""
    drops = results.filter((pl.col("corruption") == kind) & pl.col("relative_drop").is_not_null())
    if drops.is_empty():
        return ""
    row = drops.sort(["relative_drop", "read", "reader"], descending=[True, False, False]).row(0, named=True)
    return (
        f"Largest drop: {row['reader']} on {row['read']} at strength {row['strength']}, "
        f"to {percent(row['exact'])}, which is {percent(row['relative_drop'])} less than clean."
    )


def _drops(findings: Findings, results: pl.DataFrame, kinds: list[str]) -> str:
    """Mean relative drop by corruption, one row per dataset and reader."""
    means = (
        results.filter(~pl.col("corruption").is_in([_CLEAN, _MEAN]))
        .group_by("read", "reader", "corruption")
        .agg(pl.col("relative_drop").mean())
    )
    drops = {(read, reader, kind): drop for read, reader, kind, drop in means.rows()}
    overall = results.filter(pl.col("corruption") == _MEAN)
    drops |= {(r["read"], r["reader"], _MEAN): r["relative_drop"] for r in overall.iter_rows(named=True)}
    able = results.filter((pl.col("corruption") == _CLEAN) & (pl.col("exact") > 0))
    rows = []
    for ranking in findings.ranked:
        clean = [r for r in able.iter_rows(named=True) if r["read"] == ranking.dataset]
        for row in sorted(clean, key=lambda r: (-r["exact"], r["reader"])):
            values = [drops[row["read"], row["reader"], kind] for kind in (*kinds, _MEAN)]
            named = [TableCell(escape(row["reader"])), TableCell(escape(row["read"]))]
            exact = TableCell(percent(row["exact"]), row["exact"])
            rows.append(Row([*named, exact, *map(_drop, values)], ranking.dataset))
    columns = [
        Column("model"),
        Column("dataset", words=True),
        Column("clean", first="descending"),
        *map(Column, (*kinds, _MEAN)),
    ]
    caption = (
        "Relative drop of exact match, mean over the three strengths: at 50 %, half of the images that were read when "
        f"clean are lost. Models that read no clean image are left out. {tag(findings.source)}"
    )
    return table(caption, columns, rows, sortable=True)


def _drop(value: float) -> TableCell:
    depth = max(0.0, min(1.0, value))
    text = percent(value).replace("-", "−")
    return TableCell(f'<span class="heat" style="--share:{depth:.2f}">{text}</span>', value)


def _chart(results: pl.DataFrame, kind: str, dataset: str, names: list[str]) -> dict[str, Any]:
    shown = (
        results.filter(pl.col("corruption").is_in([_CLEAN, kind]))
        .sort("read", "reader", "strength")
        .select(pl.col("read").alias("dataset"), "reader", "strength", "n", "exact", "relative_drop")
    )
    channels = charts.of_reader(names)
    labels = "datum.value === 0 ? 'clean' : datum.value"
    base = (
        alt.Chart(alt.InlineData(values=shown.to_dicts()))
        .transform_filter("datum.dataset === dataset")
        .encode(
            x=alt.X("strength:O", title=f"{kind}, strength", axis=alt.Axis(labelAngle=0, labelExpr=labels)),
            y=charts.share_axis("exact match", alt.Y, "exact"),
            color=channels["color"],
        )
    )
    lines = base.mark_line()
    tooltip = [
        alt.Tooltip("reader:N", title="model"),
        alt.Tooltip("strength:O"),
        alt.Tooltip("exact:Q", format=".2%", title="exact match"),
        alt.Tooltip("relative_drop:Q", format=".1%", title="relative drop"),
        alt.Tooltip("n:Q", title="images"),
    ]
    points = base.mark_point(filled=True, size=40, opacity=1).encode(shape=channels["shape"], tooltip=tooltip)
    return charts.finished(alt.layer(lines, points).add_params(charts.menu("dataset", dataset)), height=180)


SECTION = Section(70, "robustness", "Robustness", "Robustness to corrupted images", section, tables=(ROBUSTNESS,))
