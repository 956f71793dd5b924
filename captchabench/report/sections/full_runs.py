"""Full runs on real images, from results/: first on the page, since they are what the benchmark is read for."""

from html import escape
from typing import Any

import polars as pl

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, table
from captchabench.report.runs import Run
from captchabench.report.sections.base import Section
from captchabench.report.tables import folds_note, interval, percent, readers

# What a decoding parameter that is on does.
_DECODING = {"length_prior": "length prior", "shift_average": "average over five shifts"}

_RATES = ("exact", "cer")


def section(findings: Findings, _: Figures) -> str:
    """One table per run: each model with its interval, its spread, its time, and what others published."""
    if not findings.runs:
        return "<p>There are none in <code>results/</code> yet.</p>"
    return "".join(_run(run, findings.published) for run in findings.runs)


def _run(run: Run, published: pl.DataFrame) -> str:
    rows = [_row(run, row) for row in readers(run.board).sort("dataset", "exact", descending=[False, True]).to_dicts()]
    others = published.filter(pl.col("dataset").is_in(run.board["dataset"].to_list()))
    rows += [_published(row) for row in others.sort("dataset", "exact", descending=[False, True]).to_dicts()]
    caption = (
        f"<b>{escape(run.name)}</b>: {escape(run.images)} {folds_note(max(run.board['folds']))} held out. "
        f"{escape(run.machine['processor'])}, torch {escape(run.machine['torch'])}, {escape(run.date)}, "
        f"commit <code>{escape(run.commit[:9])}</code>. Again: <code>make result RUN={escape(run.name)}</code>"
    )
    columns = [
        Column("model"),
        Column("dataset", words=True),
        Column("exact"),
        Column("95 %"),
        Column("± over seeds"),
        Column("case-folded"),
        Column("CER"),
        Column("images"),
        Column("training, minutes per fold"),
        Column("protocol", words=True),
    ]
    return table(caption, columns, rows, sortable=True)


def _row(run: Run, row: dict[str, Any]) -> Row:
    spread = row["exact_std"]
    seconds = run.train_seconds(row["dataset"].partition("/")[0], row["model"])
    return Row(
        [
            escape(row["reader"]),
            escape(row["read"]),
            TableCell(percent(row["exact"]), row["exact"]),
            interval(row),
            TableCell("–") if spread is None else TableCell(f"{100 * spread:.2f}", spread),
            TableCell(percent(row["exact_folded"]), row["exact_folded"]),
            TableCell(percent(row["cer"]), row["cer"]),
            TableCell(f"{row['n']:,}", row["n"]),
            TableCell(f"{seconds / 60:.1f}", seconds),
            escape(_protocol(run, row)),
        ],
        dataset=row["read"],
    )


def _protocol(run: Run, row: dict[str, Any]) -> str:
    """How many folds were pooled, and what decoding did beyond its defaults."""
    decoding = run.parameters["models"][row["model"]].get("decoding", {})
    used = [text for name, text in _DECODING.items() if decoding.get(name) is True]
    return ", ".join([f"{folds_note(row['folds'])} pooled" if row["folds"] > 1 else "1 fold", *used])


def _published(row: dict[str, Any]) -> Row:
    exact, cer = (TableCell("") if row[name] is None else TableCell(percent(row[name]), row[name]) for name in _RATES)
    blank = TableCell("")
    both = [blank, exact] if row["folded"] else [exact, blank]
    return Row(
        [
            f"<i>{escape(row['system'])}</i>",
            escape(row["dataset"]),
            both[0],
            "",
            blank,
            both[1],
            cer,
            TableCell("" if row["images"] is None else f"{row['images']:,}", row["images"]),
            blank,
            escape(row["protocol"]),
        ],
        dataset=row["dataset"],
    )


SECTION = Section(5, "real", "Real images", "Full runs on real images", section)
