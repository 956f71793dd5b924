"""The history of the metrics: a table for the terminal or a pull request, and a page with a plot."""

import json
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any

import altair as alt
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from captchabench.report import charts
from captchabench.report.script import vega_script
from captchabench.report.tables import source_note
from captchabench.scoring.metrics import METRICS

_SHARES = {"exact", "exact_folded", "char_accuracy", "cer"}
# Before a value that is not comparable with the one before it.
BREAK = "≠ "
_BREAKS = f"{BREAK.strip()}: measured on other images, labels or another version than the value before it"
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline';
 script-src 'unsafe-inline' 'unsafe-eval'; img-src data:">
<title>captchabench: history</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1.25rem; }
.vega-bindings { display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding-top: .6rem; }
.vega-bind select { font: inherit; margin-left: .3em; }
#plot { width: 100%; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; }
.legend svg { width: .9em; height: .9em; margin-right: .4em; }
</style>
</head>
<body>
<h1>History of the metrics</h1>
<p>$caption</p>
$legend
<div id="plot" role="img" aria-label="$caption"></div>
<script>
$bundle
</script>
<script>
vegaEmbed("#plot", $spec, {actions: false, renderer: "svg"});
</script>
</body>
</html>
""")


def history_table(history: pl.DataFrame, metric: str, last: int) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of one metric's table: one row per dataset and model, one column per commit.

    last: how many commits, counted from the newest. A cell is empty if the commit has no such number. It begins with
    BREAK if it is not comparable with the one before it in its row.
    """
    commits = [commit for commit, _ in history.select("commit", "date").unique(maintain_order=True).rows()][-last:]
    dates = dict(history.select("commit", "date").rows())
    shown = history.filter(pl.col("metric") == metric, pl.col("commit").is_in(commits))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    segments: dict[tuple[str, str], int] = {}
    for row in shown.iter_rows(named=True):
        reader = row["dataset"], row["model"]
        mark = BREAK if segments.get(reader, row["segment"]) != row["segment"] else ""
        segments[reader] = row["segment"]
        cells.setdefault(reader, {})[row["commit"]] = f"{mark}{_number(metric, row['value'])}"
    head = ["dataset", "model", *(f"{commit[:9]} {dates[commit][:10]}".strip() for commit in commits)]
    rows = [[*reader, *(cells[reader].get(commit, "") for commit in commits)] for reader in sorted(cells)]
    return head, rows


def print_history(history: pl.DataFrame, metric: str, last: int, console: Console) -> None:
    """Print one metric's table."""
    head, rows = history_table(history, metric, last)
    table = Table(title=_caption(metric), title_style="bold", title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(head):
        table.add_column(name.replace(" ", "\n"), justify="left" if i < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if _has_breaks(rows):
        console.print(_BREAKS, markup=False)


def markdown_history(history: pl.DataFrame, metric: str, last: int) -> str:
    """One metric's table as Markdown."""
    head, rows = history_table(history, metric, last)
    lines = [f"# {_caption(metric)}", "", f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(head) - 2)]
    told = ["", f"{_BREAKS}."] if _has_breaks(rows) else []
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), *told, ""])


def history_page(history: pl.DataFrame, metric: str) -> str:
    """One HTML file with a plot of all metrics that needs no network. metric: the one that is selected at first."""
    sources = sorted(set(history["source"]))
    # Commits have dates. The page may be read after the files on disk were committed.
    undated = history.filter(pl.col("date") == "")["commit"].unique()
    caption = (
        f"{history['commit'].n_unique()} states of metrics/, oldest first; "
        f"images: {', '.join(map(source_note, sources))}. A line ends where the source, the dataset version, "
        "the images or their labels change."
        + "".join(f" {name}: read from the files on disk when this page was written." for name in undated)
    )
    # "</" inside a script could end it early.
    spec = json.dumps(_spec(history, metric), sort_keys=True, ensure_ascii=False).replace("</", "<\\/")
    legend = charts.legend(_models(history))
    return _PAGE.substitute(caption=escape(caption), legend=legend, bundle=vega_script(), spec=spec)


def _has_breaks(rows: Sequence[Sequence[str]]) -> bool:
    return any(cell.startswith(BREAK) for row in rows for cell in row)


def _models(history: pl.DataFrame) -> list[str]:
    return sorted(set(history["model"]))


def _caption(metric: str) -> str:
    if metric not in METRICS.names():
        return metric
    described = METRICS[metric]
    return f"{metric}: {described.description}; {'higher' if described.higher_is_better else 'lower'} is better"


def _number(metric: str, value: float | None) -> str:
    if value is None:
        return ""
    if metric in _SHARES:
        return f"{value:.2%}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _spec(history: pl.DataFrame, metric: str) -> dict[str, Any]:
    """One line per model over the commits, for the dataset and the metric that two menus select."""
    commits = history.select("commit").unique(maintain_order=True).with_row_index("position", offset=1)
    shown = history.join(commits, on="commit", maintain_order="left").with_columns(
        pl.col("commit").str.head(9), pl.col("date").str.head(10)
    )
    # As CSV the data has a quarter of the size of a list of objects.
    parse = {"position": "number", "value": "number", "low": "number", "high": "number"}
    data = alt.InlineData(values=shown.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
    names = shown["commit"].unique(maintain_order=True).to_list()
    datasets, metrics = (shown[name].unique().sort().to_list() for name in ("dataset", "metric"))
    tooltip = [
        "commit:N",
        "date:N",
        "subject:N",
        "model:N",
        "source:N",
        "version:N",
        "n:Q",
        "value:Q",
        "low:Q",
        "high:Q",
    ]
    base = (
        alt.Chart(data)
        .transform_filter("datum.dataset === dataset && datum.metric === metric")
        .transform_calculate(reader="datum.model")
        .encode(
            x=alt.X("commit:O", sort=names, title=None, axis=alt.Axis(labelAngle=-45)),
            detail=["segment:N"],
            tooltip=tooltip,
        )
    )
    channels = charts.of_reader(_models(history))
    value = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q", color=channels["color"]),
        base.mark_line().encode(y=value, color=channels["color"]),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=value, **channels),
    ).add_params(_menu("dataset", datasets[0], datasets), _menu("metric", metric, metrics))
    return charts.finished(chart, height=380)


def _menu(name: str, value: str, options: Sequence[str]) -> alt.Parameter:
    return alt.param(name=name, value=value, bind=alt.binding_select(options=list(options), name=f"{name} "))
