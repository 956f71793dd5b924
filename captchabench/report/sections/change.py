"""What became of every number since an earlier commit, and whether chance would do as much."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, get_args

from captchabench.comparison.compare import Verdict
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, TableCell, table, tag
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent

_SAME = "no significant change"
_MARKS = {"better": "▲ ", "worse": "▼ "}
_COLUMNS = (
    Column("model"),
    Column("dataset", words=True),
    Column("before", first="descending"),
    Column("now", first="descending"),
    Column("difference, points", first="descending"),
    Column("95 %"),
    Column("p (Holm)"),
    Column("exact p"),
    Column("verdict", words=True),
    Column("gained", first="descending"),
    Column("lost", first="descending"),
)


def section(findings: Findings, _: Figures) -> str:
    """What changed in sight, what did not folded away; or why nothing was compared."""
    change = findings.change
    if not change.rows:
        return f'<p class="soft">{escape(change.reason)}</p>'
    reasons = list(dict.fromkeys(row["reason"] for row in change.rows if row["reason"]))
    changed = [row for row in change.rows if row["verdict"] != _SAME]
    same = [row for row in change.rows if row["verdict"] == _SAME]
    verdicts = Counter(row["verdict"] for row in change.rows)
    said = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in get_args(Verdict) if verdicts[verdict])
    parts = [
        f"<p>Exact match against commit {escape(change.against)}: <b>{escape(said)}</b>. A verdict is McNemar's on "
        "common images, with Holm's correction over the table; the exact p is before that. Gained and lost: images "
        "that this run or that commit alone read right.</p>"
    ]
    if changed:
        parts.append(_table("What changed.", changed, reasons, findings.source))
    if same:
        listed = _table("No significant change.", same, reasons, findings.source)
        parts.append(f"<details><summary>{len(same)} without a significant change</summary>{listed}</details>")
    notes = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return "".join(parts) + (f'<ol class="soft">{notes}</ol>' if notes else "")


def _table(caption: str, rows: Sequence[Mapping[str, Any]], reasons: Sequence[str], source: str) -> str:
    return table(f"{caption} {tag(source)}", _COLUMNS, [_row(row, reasons) for row in rows], sortable=True)


def _row(row: Mapping[str, Any], reasons: Sequence[str]) -> Row:
    exact, verdict = row["exact"], row["verdict"]
    note = f" <sup>{reasons.index(row['reason']) + 1}</sup>" if row["reason"] else ""
    return Row(
        [
            escape(row["model"]),
            escape(row["dataset"]),
            *(_share(row[side]) for side in ("old", "new")),
            TableCell(_points(exact["difference"]), exact["difference"]) if exact else TableCell("–"),
            f"{_points(exact['low'])} to {_points(exact['high'])}" if exact else "–",
            _p(exact and exact["p_holm"]),
            _p(exact and exact.get("p_exact")),
            f'<span class="{escape(verdict)}">{_MARKS.get(verdict, "")}{escape(verdict)}</span>{note}',
            *(_flips(row[name]) for name in ("gained", "lost")),
        ],
        str(row["dataset"]).rpartition("/")[2],
    )


def _share(side: Mapping[str, Any] | None) -> TableCell:
    return TableCell("–") if side is None else TableCell(percent(side["exact"]), side["exact"])


def _flips(images: Sequence[Any] | None) -> TableCell:
    return TableCell("–") if images is None else TableCell(f"{len(images):,}", len(images))


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _p(value: float | None) -> TableCell:
    if value is None:
        return TableCell("–")
    return TableCell("&lt; 0.001" if value < 0.001 else f"{value:.3f}", value)


SECTION = Section(20, "change", "Change", "Since the last commit", section)
