"""Grids of tiles: the share of tiles read right, the share of challenges solved, and the scores of each class."""

from html import escape
from typing import Any

import polars as pl

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, menus, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import Ranking, percent
from captchabench.scoring.leaderboard import CLASSES

_MODELS = (
    Column("model"),
    Column("dataset", words=True),
    Column("tiles right", first="descending"),
    Column("challenges solved", first="descending"),
    Column("whole grids right", first="descending"),
    Column("grids", first="descending"),
)
_CLASSES = (
    Column("class"),
    Column("tiles", first="descending"),
    Column("precision", first="descending"),
    Column("recall", first="descending"),
    Column("F1", first="descending"),
    Column("challenges", first="descending"),
    Column("solved", first="descending"),
)


def section(findings: Findings, _: Figures) -> str:
    """A table with one row per model, and for each dataset and model a panel with one row per class."""
    if not findings.grids:
        return '<p class="soft">No grids of tiles were read.</p>'
    rows = [_model(ranking, row) for ranking in findings.grids for row in ranking.rows]
    first = findings.grids[0]
    models = sorted({row["model"] for ranking in findings.grids for row in ranking.rows}, key=findings.readers.index)
    selected = {"dataset": first.dataset, "model": first.rows[0]["model"]}
    chooser = menus(["classes"], {"dataset": [r.dataset for r in findings.grids], "model": models}, selected)
    panels = [
        _panel(findings, ranking, model, shown=[ranking.dataset, model] == list(selected.values()))
        for ranking in findings.grids
        for model in models
    ]
    return (
        "<p>A challenge shows a grid and asks for all tiles of one class. It is solved if exactly these tiles are "
        "selected. Each grid is one challenge for every class in it.</p>"
        + table(f"Best first. {tag(first.source)}", _MODELS, rows, sortable=True)
        + f'{chooser}<div id="classes">{"".join(panels)}</div>'
    )


def _model(ranking: Ranking, row: dict[str, Any]) -> Row:
    shares = (row["char_accuracy"], row["selection"], row["exact"])
    return Row(
        [
            escape(row["reader"]),
            escape(ranking.dataset),
            *(TableCell(percent(share), share) for share in shares),
            TableCell(f"{row['n']:,}", row["n"]),
        ],
        ranking.dataset,
        row["reader"] in ranking.best,
    )


def _panel(findings: Findings, ranking: Ranking, model: str, *, shown: bool) -> str:
    scores = findings.tables[CLASSES].filter((pl.col("dataset") == ranking.dataset) & (pl.col("model") == model))
    rows = [
        Row(
            [
                escape(row["class"]),
                TableCell(f"{row['tiles']:,}", row["tiles"]),
                *(TableCell(percent(row[name]), row[name]) for name in ("precision", "recall")),
                TableCell(f"{row['f1']:.3f}", row["f1"]),
                TableCell(f"{row['challenges']:,}", row["challenges"]),
                TableCell(percent(row["solved"]), row["solved"]),
            ]
        )
        for row in scores.sort("f1", "class").iter_rows(named=True)
    ]
    if rows:
        text = table(
            f"{escape(model)} on {escape(ranking.dataset)}, hardest class first.", _CLASSES, rows, sortable=True
        )
    else:
        text = f'<p class="soft">{escape(model)} was not run on {escape(ranking.dataset)}.</p>'
    return f'<div data-panel="{escape(ranking.dataset)} {escape(model)}"{"" if shown else " hidden"}>{text}</div>'


SECTION = Section(50, "tiles", "Tiles", "Grids of tiles", section, tables=(CLASSES,))
