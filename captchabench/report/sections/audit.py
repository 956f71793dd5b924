"""The data: rejected images, duplicates, leakage between folds, balance of symbols."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import altair as alt

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.inputs import Cleaning
from captchabench.report.markup import Column, Row, menus, table, tag
from captchabench.report.sections.base import Section

_COLUMNS = (
    Column("dataset"),
    Column("read"),
    Column("kept"),
    Column("rejected", words=True),
    Column("images per fold", words=True),
    Column("different labels"),
    Column("differ only in case"),
    Column("evenness"),
    Column("most frequent"),
    Column("least frequent"),
)


def section(findings: Findings, figures: Figures) -> str:
    """One row per dataset, the audit's findings on duplicates, and how often each symbol occurs."""
    tiles = findings.params.matrix.tiles.datasets
    rows = [
        _row(entry, findings.audit["datasets"][entry.dataset], tiles=entry.dataset in tiles)
        for entry in findings.cleaning
    ]
    first = findings.cleaning[0].dataset
    chooser = menus([figures.following], {"dataset": [e.dataset for e in findings.cleaning]}, {"dataset": first})
    chart = figures.add(
        _chart(findings.cleaning, first, tiles),
        "How often each symbol occurs in the labels (tiles: each class). The dashed line is the mean. Evenness is 1 if "
        "all are equally frequent.",
        "Bar chart of the symbols of the selected dataset. The table above names the most and the least frequent.",
        findings.source,
    )
    listed = table(
        f"How many images were read, kept and rejected, and how they are divided into folds. {tag(findings.source)}",
        _COLUMNS,
        rows,
    )
    return listed + _verdict(findings) + chooser + chart


def _row(entry: Cleaning, audited: dict[str, Any], *, tiles: bool) -> Row:
    reasons = sorted(entry.rejected.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{escape(reason)} {count:,}" for reason, count in reasons if count) or "none"
    balance = audited["balance"]
    return Row(
        [
            escape(entry.dataset) + (" (tiles)" if tiles else ""),
            f"{entry.images_read:,}",
            f"{entry.kept:,}",
            listed,
            " · ".join(f"{count:,}" for count in audited["folds"].values()),
            f"{audited['distinct_labels']:,}",
            f"{audited['labels_alike_but_for_case']['labels']:,}",
            f"{balance['evenness']:.3f}",
            *(_symbol(**balance[end]) for end in ("commonest", "rarest")),
        ],
        entry.dataset,
    )


def _symbol(symbol: str, count: int) -> str:
    return f"<code>{escape(symbol)}</code> {count:,}×"


def _verdict(findings: Findings) -> str:
    """The sentences on duplicates and leakage."""
    same, leak = findings.audit["duplicates"], findings.audit["leakage"]
    straddling = leak["near_groups_across_folds"]
    if same["near_groups"] or same["exact_groups"]:
        sentences = [
            f"Identical images: {same['exact_images']:,}, in {same['exact_groups']:,} groups, of which "
            f"{same['exact_groups_with_two_labels']:,} with different labels. "
            f"Near-duplicates by perceptual hash: {same['near_images']:,}, in {same['near_groups']:,} groups, of which "
            f"{same['groups_across_datasets']:,} across datasets."
        ]
    else:
        sentences = ["No two images are identical or near-duplicates (perceptual hash)."]
    sentences.append(
        f"<strong>Groups split between folds: {straddling:,}.</strong>"
        if straddling
        else "No group is split between folds, so no model is tested on a duplicate of a training image."
    )
    if same["two_labels_examples"]:
        listed = "; ".join(escape(" and ".join(group)) for group in same["two_labels_examples"])
        sentences.append(f"Identical images with different labels: {listed}.")
    untaught = [
        f"{escape(name)} fold {escape(fold)}: {escape(symbols)}"
        for name, audited in findings.audit["datasets"].items()
        for fold, symbols in audited["symbols_in_one_fold_only"].items()
    ]
    if untaught:
        sentences.append(
            f"Symbols that occur in one fold only, so that no model tested on it has seen them: {'; '.join(untaught)}."
        )
    return f"<p>{' '.join(sentences)}</p>"


def _chart(cleaning: Sequence[Cleaning], dataset: str, tiles: Sequence[str]) -> dict[str, Any]:
    # Names of classes are slanted: they are too long to be horizontal.
    angle = alt.ExprRef(f"indexof({json.dumps(tiles)}, dataset) < 0 ? 0 : -40")
    values = [
        {"dataset": entry.dataset, "symbol": symbol, "count": count}
        for entry in cleaning
        for symbol, count in entry.symbols.items()
    ]
    base = alt.Chart(alt.InlineData(values=values)).transform_filter("datum.dataset === dataset")
    bars = base.mark_bar(color=charts.PALETTE[0]).encode(
        x=alt.X("symbol:N", title=None, axis=alt.Axis(labelAngle=angle)),
        y=alt.Y("count:Q", title="occurrences"),
        tooltip=["symbol:N", "count:Q"],
    )
    mean = base.mark_rule(strokeDash=[4, 4]).encode(y="mean(count):Q", color=alt.value("currentColor"))
    return charts.finished(alt.layer(bars, mean).add_params(charts.menu("dataset", dataset)), height=150)


SECTION = Section(110, "data", "Data", "The data", section)
