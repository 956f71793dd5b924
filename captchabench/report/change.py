"""A comparison as an HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from captchabench.comparison.compare import Comparison
from captchabench.report.comparison import outcome, points, repinned, sources, title
from captchabench.report.markup import Column, Row, TableCell, table
from captchabench.report.tables import percent

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>captchabench: $title</title>
<style>
$style
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")
_SAME = "no significant change"
_MARKS = {"better": "▲ ", "worse": "▼ "}
_COLUMNS = (
    Column("model"),
    Column("dataset", words=True),
    Column("old", first="descending"),
    Column("new", first="descending"),
    Column("difference, points", first="descending"),
    Column("95 %"),
    Column("p (Holm)"),
    Column("exact p"),
    Column("verdict", words=True),
    Column("gained", first="descending"),
    Column("lost", first="descending"),
)


def change_page(comparison: Comparison) -> str:
    """One HTML file without scripts or network access. Rows without a significant change are folded."""
    rows = [row.as_json() for row in comparison.rows]
    reasons = list(dict.fromkeys(row["reason"] for row in rows if row["reason"]))
    changed = [row for row in rows if row["verdict"] != _SAME]
    same = [row for row in rows if row["verdict"] == _SAME]
    parts = [
        f"<p><b>{escape(outcome(comparison))}.</b> Verdicts: McNemar's test on the images that both sides read, with "
        "Holm's correction over the table. The exact p is uncorrected. Gained: images that only the new side read "
        "right; lost: only the old side.</p>"
    ]
    if changed:
        parts.append(_table("What changed.", changed, reasons))
    if same:
        listed = _table("No significant change.", same, reasons)
        parts.append(f"<details><summary>{len(same)} without a significant change</summary>{listed}</details>")
    notes = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    parts.append(f'<ol class="soft">{notes}</ol>' if notes else "")
    parts += [f"<p>{escape(line)}</p>" for line in (*repinned(comparison), f"{sources(comparison)}.")]
    return _PAGE.substitute(
        title=escape(title(comparison)),
        style=files("captchabench.report").joinpath("page.css").read_text(encoding="utf-8").strip(),
        body="\n".join(parts),
    )


def _table(caption: str, rows: Sequence[Mapping[str, Any]], reasons: Sequence[str]) -> str:
    return table(caption, _COLUMNS, [_row(row, reasons) for row in rows])


def _row(row: Mapping[str, Any], reasons: Sequence[str]) -> Row:
    exact, verdict = row["exact"], row["verdict"]
    note = f" <sup>{reasons.index(row['reason']) + 1}</sup>" if row["reason"] else ""
    return Row(
        [
            escape(row["model"]),
            escape(row["dataset"]),
            *(_share(row[side]) for side in ("old", "new")),
            TableCell(points(exact["difference"]), exact["difference"]) if exact else TableCell("–"),
            f"{points(exact['low'])} to {points(exact['high'])}" if exact else "–",
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


def _p(value: float | None) -> TableCell:
    if value is None:
        return TableCell("–")
    return TableCell("&lt; 0.001" if value < 0.001 else f"{value:.3f}", value)
