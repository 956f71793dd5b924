"""Full runs on real images, from results/: first on the page, since they are what the benchmark is read for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, numbers, table
from captchabench.report.runs import Run
from captchabench.report.sections.base import Section
from captchabench.report.tables import folds_note, interval, percent, readers

# What a decoding parameter that is on does.
_DECODING = {"length_prior": "length prior", "shift_average": "average over five shifts"}

_COLUMNS = (
    Column("model"),
    Column("dataset", words=True, optional=True),
    Column("exact"),
    Column("95 %"),
    Column("of the ceiling", optional=True),
    Column("± over seeds", optional=True),
    Column("case-folded", optional=True),
    Column("CER", optional=True),
    Column("tiles right", optional=True),
    Column("macro F1", optional=True),
    Column("images"),
    Column("minutes per fold", optional=True),
    Column("protocol", words=True),
)


def section(findings: Findings, figures: Figures) -> str:
    """One table per run: each model with its interval, its spread, its time, and what others published; and its curve.

    The curve is exact match against training images, where it was measured.
    """
    if not findings.runs:
        return "<p>There are none in <code>results/</code> yet.</p>"
    return "".join(_run(run, findings.published) + _curves(run, findings.readers, figures) for run in findings.runs)


def _run(run: Run, published: pl.DataFrame) -> str:
    rows = [_row(run, row) for row in readers(run.board).sort("dataset", "exact", descending=[False, True]).to_dicts()]
    ceilings = dict(run.board.select("dataset", "ceiling").drop_nulls().unique().rows())
    others = published.filter(pl.col("dataset").is_in(run.board["dataset"].to_list()))
    rows += [
        _published(row, ceilings.get(row["dataset"]))
        for row in others.sort("dataset", "exact", descending=[False, True]).to_dicts()
    ]
    allowed = "".join(
        f" The fonts of the generator of {escape(dataset)} allow an exact match of {percent(ceiling)}."
        for dataset, ceiling in sorted(ceilings.items())
        if "/" not in dataset
    )
    caption = (
        f"<b>{escape(run.name)}</b>: {escape(run.images)} {folds_note(max(run.board['folds']))} held out. "
        f"{escape(run.machine['processor'])}, torch {escape(run.machine['torch'])}, {escape(run.date)}, commit "
        f"<code>{escape(run.commit[:9])}</code>. Again: <code>make result RUN={escape(run.name)}</code>.{allowed}"
    )
    if len({row.dataset for row in rows}) == 1:
        rows = [replace(row, cells=[row.cells[0], "", *row.cells[2:]]) for row in rows]
    return table(caption, _COLUMNS, rows, sortable=True)


def _row(run: Run, row: dict[str, Any]) -> Row:
    seconds = run.train_seconds(row["dataset"].partition("/")[0], row["model"])
    tiles = row["selection"] is not None
    return Row(
        [
            escape(row["reader"]),
            escape(row["read"]),
            _share(row["exact"]),
            interval(row),
            _share(row["of_ceiling"]),
            _number(row["exact_std"], lambda spread: f"{100 * spread:.2f}"),
            _share(None if tiles else row["exact_folded"]),
            _share(None if tiles else row["cer"]),
            _share(row["position_accuracy"] if tiles else None),
            _number(row["f1"] if tiles else None, lambda f1: f"{f1:.3f}"),
            _number(row["n"], lambda n: f"{n:,}"),
            _number(seconds, lambda s: f"{s / 60:.1f}"),
            escape(_protocol(run, row)),
        ],
        dataset=row["read"],
    )


def _number(value: float | None, form: Callable[[float], str]) -> TableCell:
    """A cell with a number; empty where there is none."""
    return TableCell("") if value is None else TableCell(form(value), value)


def _share(value: float | None) -> TableCell:
    return _number(value, percent)


def _protocol(run: Run, row: dict[str, Any]) -> str:
    """How many folds were pooled, and what decoding did beyond its defaults."""
    decoding = run.parameters["models"][row["model"]].get("decoding", {})
    used = [text for name, text in _DECODING.items() if decoding.get(name) is True]
    return ", ".join([f"{folds_note(row['folds'])} pooled" if row["folds"] > 1 else "1 fold", *used])


def _published(row: dict[str, Any], ceiling: float | None) -> Row:
    folded = row["folded"]
    known = ceiling is not None and row["exact"] is not None and not folded
    return Row(
        [
            f"<i>{escape(row['system'])}</i>",
            escape(row["dataset"]),
            _share(None if folded else row["exact"]),
            "",
            _share(row["exact"] / ceiling if known else None),
            "",
            _share(row["exact"] if folded else None),
            _share(row["cer"]),
            "",
            "",
            _number(row["images"], lambda n: f"{n:,}"),
            "",
            escape(row["protocol"]),
        ],
        dataset=row["dataset"],
    )


def _curves(run: Run, readers: Sequence[str], figures: Figures) -> str:
    """One chart per dataset of the run, one line per model, with the numbers below it."""
    if run.curve.is_empty():
        return ""
    models = [*readers, *sorted(set(run.curve["model"]) - set(readers))]
    parts = []
    for dataset, rows in sorted(run.curve.group_by("dataset", maintain_order=True), key=lambda part: str(part[0])):
        name, source = str(dataset[0]), run.board.filter(pl.col("dataset") == dataset[0])["source"][0]
        chart = figures.add(
            _curve(rows, models),
            f"{run.name}, {name}: held-out images read exactly against the number of training images, with Wilson "
            "intervals. All parts are trained for as many steps.",
            f"Exact match on {name} against training images; the table below has its numbers.",
            source,
        )
        listed = [
            Row([row["model"], f"{row['images']:,}", percent(row["exact"]), interval(row), f"{row['n']:,}"])
            for row in rows.iter_rows(named=True)
        ]
        columns = [Column(title) for title in ("model", "training images", "exact", "95 %", "held-out images")]
        parts.append(f'<div class="narrow">{chart}</div>{numbers("The same in numbers.", columns, listed)}')
    return charts.legend(models, set(run.curve["model"])) + "".join(parts)


def _curve(rows: pl.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    values = rows.rename({"model": "reader"}).select("reader", "images", "exact", "exact_lo", "exact_hi").to_dicts()
    channels = charts.of_reader(models)
    axis = alt.Axis(title="training images", format="~s")
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("images:Q", scale=alt.Scale(type="log", nice=False, padding=12), axis=axis), color=channels["color"]
    )
    exact = charts.share_axis("exact match", alt.Y, "exact")
    tooltip = [
        alt.Tooltip("reader:N", title="model"),
        alt.Tooltip("images:Q", format=","),
        *(alt.Tooltip(f"{name}:Q", format=".2%") for name in ("exact", "exact_lo", "exact_hi")),
    ]
    layers = [
        base.mark_line().encode(y=exact),
        base.mark_rule(strokeWidth=2).encode(y=charts.share_axis("exact match", alt.Y, "exact_lo"), y2="exact_hi:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=exact, shape=channels["shape"], tooltip=tooltip),
    ]
    return charts.finished(alt.layer(*layers), height=260)


SECTION = Section(5, "real", "Real images", "Full runs on real images", section)
