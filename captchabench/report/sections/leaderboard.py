"""The leaderboard: all results in one sortable table, with their intervals drawn."""

from collections.abc import Callable, Set
from html import escape
from typing import Any

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import Ranking, folds_note, interval, percent
from captchabench.scoring.metrics import METRICS

_SHARES = {"exact_folded": "case-folded", "coverage_99": "read at 99 %"}
_NUMBERS = {"f1": "F1", "ece": "ECE"}
_OPTIONAL = {"of_ceiling": "of the ceiling", "exact_std": "± over seeds"}
_EXPLAINED = ("exact", "exact_folded", "cer", "coverage_99", "f1", "ece")
_NOTES = {
    "95 % interval": "Wilson interval for exact; for CER, bootstrap over images; near-duplicates count as one image",
    "of the ceiling": "exact as a share of the highest exact match possible, where the fonts are known: see Ceiling",
    "± over seeds": "standard deviation of exact over folds, in percentage points; each fold has a seed of its own",
    "grids of tiles": "exact counts grids with all nine tiles right; CER is the share of tiles read wrong; F1 is "
    "that of the classes; the section Tiles has more",
    "union": "all datasets of text, merged; a model trained on union is also listed under each dataset that it read",
    "pretrained": "training did not start from random weights; the section Run says from which",
    "models, datasets": "described in docs/recognisers.md",
}


def section(findings: Findings, _: Figures) -> str:
    """The table and the meaning of its columns. Optional columns are shown if any row has a value."""
    empty = {title for name, title in _OPTIONAL.items() if findings.board[name].is_null().all()}
    rows = [_row(ranking, row) for ranking in findings.ranked for row in ranking.rows]
    folds = folds_note(max(row["folds"] for ranking in findings.ranked for row in ranking.rows))
    caption = (
        f'<span id="shown" role="status">{_results(len(rows))}</span> on held-out images of {folds}, by dataset, best '
        f"first. Click a column's name to sort by it. {tag(findings.source)}"
    )
    return f'<div id="leaderboard">{table(caption, _columns(), rows, sortable=True)}</div>{_notes(empty)}'


def _results(count: int) -> str:
    return f"{count} result{'s' * (count != 1)}"


def _columns() -> list[Column]:
    return [
        Column("model"),
        Column("dataset", words=True),
        Column("exact", first=_first("exact")),
        Column("95 % interval", words=True, first=_first("exact")),
        Column(_OPTIONAL["of_ceiling"], first=_first("exact"), optional=True),
        Column(_OPTIONAL["exact_std"], optional=True),
        Column("CER", first=_first("cer")),
        *(Column(title, first=_first(name)) for name, title in (_SHARES | _NUMBERS).items()),
        Column("images", first="descending"),
    ]


def _first(metric: str) -> str:
    return "descending" if METRICS[metric].higher_is_better else "ascending"


def _row(ranking: Ranking, row: dict[str, Any]) -> Row:
    return Row(
        cells=[
            _reader(row),
            escape(ranking.dataset),
            TableCell(percent(row["exact"]), row["exact"]),
            TableCell(_drawn(row), row["exact"]),
            _or_dash(row["of_ceiling"], percent),
            _or_dash(row["exact_std"], lambda spread: f"{100 * spread:.1f}"),
            TableCell(_cer(row), row["cer"]),
            *(TableCell(percent(row[name]), row[name]) for name in _SHARES),
            *(TableCell(f"{row[name]:.3f}", row[name]) for name in _NUMBERS),
            TableCell(_images(row), row["n"]),
        ],
        dataset=ranking.dataset,
        best=row["reader"] in ranking.best,
    )


def _or_dash(value: float | None, form: Callable[[float], str]) -> TableCell:
    return TableCell("–") if value is None else TableCell(form(value), value)


def _images(row: dict[str, Any]) -> str:
    """The number of images, and that with near-duplicates counted once where there are any."""
    if row["groups"] in (None, row["n"]):
        return f"{row['n']:,}"
    return f'{row["n"]:,} <small title="near-duplicates counted once">{row["groups"]:,}</small>'


def _reader(row: dict[str, Any]) -> str:
    """The model, and whether it started from pretrained weights."""
    if not row["pretraining"]:
        return escape(row["reader"])
    return f'{escape(row["reader"])} <small title="{escape(row["pretraining"])}">pretrained</small>'


def _cer(row: dict[str, Any]) -> str:
    # The bootstrap has no interval if all images have the same error rate.
    if row["cer_lo"] is None:
        return percent(row["cer"])
    return f"{percent(row['cer'])} <small>{100 * row['cer_lo']:.1f}–{100 * row['cer_hi']:.1f}</small>"


def _drawn(row: dict[str, Any]) -> str:
    """The interval as a band on a scale from 0 to 100 %, the estimate as a line in it, and both ends as numbers."""
    low, high, exact = (100 * row[key] for key in ("exact_lo", "exact_hi", "exact"))
    return (
        f'<span class="range" aria-hidden="true"><i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
        f'<b style="left:{exact:.2f}%"></b></span><small>{interval(row)}</small>'
    )


def _notes(empty: Set[str]) -> str:
    titles = {"exact": "exact", "cer": "CER"} | _SHARES | _NUMBERS
    notes = {
        titles[
            name
        ]: f"{METRICS[name].description}; {'higher' if METRICS[name].higher_is_better else 'lower'} is better"
        for name in _EXPLAINED
    }
    kept = {term: text for term, text in (notes | _NOTES).items() if term not in empty}
    listed = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in kept.items())
    return f"<details><summary>What the columns mean</summary><dl>{listed}</dl></details>"


SECTION = Section(10, "results", "Leaderboard", "Leaderboard", section)
