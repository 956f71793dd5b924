"""reports/index.html: one file that tells the whole result, from disk and without a network."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import polars as pl

from captchabench.config import Params
from captchabench.datasets import UNION
from captchabench.evaluation.alignment import DELETED, INSERTED
from captchabench.evaluation.leaderboard import OTHER
from captchabench.evaluation.metrics import METRICS
from captchabench.report import charts
from captchabench.report.inputs import Cleaning
from captchabench.report.script import vega_script
from captchabench.report.tables import Ranking, folds_note, interval, percent, rankings, source_note

_PAIRS_SHOWN = 6
_HEAD = (
    *("model", "exact", "95 % interval", "CER"),
    *("case-folded", "F1", "ECE", "parameters", "train s", "images/s"),
)


@dataclass(frozen=True)
class Findings:
    """All that the page shows. `params_text` is params.yaml as written."""

    board: pl.DataFrame
    curves: pl.DataFrame
    confusions: pl.DataFrame
    cleaning: Sequence[Cleaning]
    params: Params
    params_text: str


class _Figures:
    """The page's charts by the id of their place."""

    def __init__(self) -> None:
        self.specs: dict[str, dict[str, Any]] = {}

    def add(self, spec: dict[str, Any], caption: str, source: str) -> str:
        """Enter a chart; return its place. Every figure says where its images came from."""
        name = f"figure-{len(self.specs) + 1}"
        self.specs[name] = spec
        return (
            f'<figure><div class="chart" id="{name}"></div>'
            f"<figcaption>{escape(caption)} {_tag(source)}</figcaption></figure>"
        )


def page(findings: Findings) -> str:
    """The page as one HTML document: styles, charts and the script that draws them are inside."""
    ranked = rankings(findings.board)
    figures = _Figures()
    body = [
        _head(ranked),
        "<h2>Leaderboard</h2>",
        *(_ranking(ranking) for ranking in ranked),
        _columns_note(),
        "<h2>Accuracy by dataset and model</h2>",
        _accuracy(findings, ranked, figures),
        "<h2>Learning curves</h2>",
        _curves(findings, ranked, figures),
        "<h2>What is mistaken for what</h2>",
        _mistakes(findings, ranked, figures),
        "<h2>The data</h2>",
        _cleaning(findings.cleaning),
        "<h2>What was run</h2>",
        _run(findings, ranked),
    ]
    parts = files("captchabench.report")
    # "</" inside a script could end it early.
    specs = json.dumps(figures.specs, sort_keys=True, ensure_ascii=False).replace("</", "<\\/")
    return Template(parts.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        style=parts.joinpath("page.css").read_text(encoding="utf-8").strip(),
        body="\n".join(body),
        bundle=vega_script(),
        figures=specs,
    )


def _tag(source: str) -> str:
    kind = "tag standin" if source == "standin" else "tag"
    return f'<span class="{kind}">{escape(source_note(source))}</span>'


def _head(ranked: Sequence[Ranking]) -> str:
    own = [r for r in ranked if r.dataset != UNION]
    models = {row["model"] for ranking in ranked for row in ranking.rows}
    cards = []
    for ranking in own:
        best = ranking.rows[0]
        cards.append(
            f'<div class="card"><span class="soft">{escape(ranking.dataset)}</span>'
            f"<b>{percent(best['exact'])}</b>{escape(best['reader'])}"
            f'<div class="soft">{interval(best)} at 95 %</div></div>'
        )
    notice = ""
    if any(r.source == "standin" for r in ranked):
        notice = (
            '<p class="notice">These images are stand-ins that the program drew itself in the look of each '
            "dataset. No number here is a result on the Kaggle images.</p>"
        )
    return (
        f"<header><h1>How much of a CAPTCHA do {len(models)} recognisers read?</h1>"
        f'<p class="soft">Share of held-out images whose whole text is right, best recogniser on each of '
        f"{len(own)} datasets.</p>{notice}</header><div class='cards'>{''.join(cards)}</div>"
    )


def _ranking(ranking: Ranking) -> str:
    folds = max(row["folds"] for row in ranking.rows)
    head = _row("th", _HEAD, wide=range(4, 10))
    rows = []
    for row in ranking.rows:
        low, high, exact = (100 * row[key] for key in ("exact_lo", "exact_hi", "exact"))
        drawn = (
            f'<div class="range" title="{interval(row)} %">'
            f'<i style="left:{low:.2f}%;width:{high - low:.2f}%"></i><b style="left:{exact:.2f}%"></b></div>'
        )
        values = [
            escape(row["reader"]),
            percent(row["exact"]),
            drawn,
            percent(row["cer"]),
            percent(row["exact_folded"]),
            f"{row['f1']:.3f}",
            f"{row['ece']:.3f}",
            f"{row['parameters']:,}",
            f"{row['train_seconds']:,.1f}",
            f"{row['images_per_second']:,.0f}",
        ]
        line = _row("td", values, wide=range(4, 10)).replace("<td>" + drawn, '<td class="interval">' + drawn)
        rows.append(line.replace("<tr>", '<tr class="best">') if row["reader"] in ranking.best else line)
    return (
        f"<h3>{escape(ranking.dataset)} {_tag(ranking.source)}</h3>"
        f'<p class="soft">{ranking.n:,} held-out images, {folds_note(folds)}, version {ranking.version}</p>'
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _columns_note() -> str:
    notes = [
        f"<b>{escape(title)}</b>: {escape(METRICS[name].description)} "
        f"({'higher' if METRICS[name].higher_is_better else 'lower'} is better)"
        for name, title in (("exact", "exact"), ("cer", "CER"), ("f1", "F1"), ("ece", "ECE"))
    ]
    return f'<p class="soft">{"; ".join(notes)}. Intervals are Wilson\'s at 95 %.</p>'


def _accuracy(findings: Findings, ranked: Sequence[Ranking], figures: _Figures) -> str:
    board = findings.board.filter(~pl.col("dataset").str.contains("/"))
    return figures.add(
        charts.accuracy(board, [ranking.dataset for ranking in ranked], _models(findings)),
        "Exact match with its 95 % interval.",
        findings.params.data.source,
    )


def _curves(findings: Findings, ranked: Sequence[Ranking], figures: _Figures) -> str:
    parts = []
    for ranking in ranked:
        curves = findings.curves.filter(pl.col("dataset") == ranking.dataset)
        caption = f"{ranking.dataset}: exact match on the validation part of the training folds."
        parts.append(figures.add(charts.learning_curves(curves, _models(findings)), caption, ranking.source))
    return f'<div class="grid">{"".join(parts)}</div>'


def _mistakes(findings: Findings, ranked: Sequence[Ranking], figures: _Figures) -> str:
    rows = []
    for ranking in ranked:
        model = next(row["model"] for row in ranking.rows if row["dataset"] == ranking.dataset)
        pairs = findings.confusions.filter(
            (pl.col("dataset") == ranking.dataset)
            & (pl.col("model") == model)
            & (pl.col("actual") != pl.col("predicted"))
            & (pl.col("predicted") != OTHER)
        ).sort(["count", "actual", "predicted"], descending=[True, False, False])
        shown = [_pair(*pair) for pair in pairs.head(_PAIRS_SHOWN).select("actual", "predicted", "count").rows()]
        listed = " &ensp; ".join(shown) or "nothing"
        rows.append(
            f"<tr><td>{escape(ranking.dataset)}</td><td class='wrap'>{escape(model)}</td>"
            f'<td class="wrap">{listed}</td></tr>'
        )
    best = next(row for row in ranked[0].rows if row["dataset"] == ranked[0].dataset)
    chart = figures.add(
        charts.mistakes(findings.confusions, ranked[0].dataset, best["model"]),
        "Characters read as others, as a share of each actual character; grey where read right.",
        findings.params.data.source,
    )
    return (
        '<div class="scroll"><table><thead><tr><th>dataset</th><th class="wrap">model</th>'
        '<th class="wrap">most frequent mistakes of its best model</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{chart}"
    )


def _pair(actual: str, predicted: str, count: int) -> str:
    if predicted == DELETED:
        return f"<code>{escape(actual)}</code>&nbsp;missed&nbsp;{count}×"
    if actual == INSERTED:
        return f"<code>{escape(predicted)}</code>&nbsp;invented&nbsp;{count}×"
    return f"<code>{escape(actual)}</code>→<code>{escape(predicted)}</code>&nbsp;{count}×"


def _cleaning(cleaning: Iterable[Cleaning]) -> str:
    rows = []
    for entry in cleaning:
        reasons = sorted(entry.rejected.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{escape(reason)} {count:,}" for reason, count in reasons if count) or "none"
        rows.append(
            f"<tr><td>{escape(entry.dataset)} {_tag(entry.source)}</td><td>{entry.images_read:,}</td>"
            f"<td>{entry.kept:,}</td><td>{sum(entry.rejected.values()):,}</td>"
            f'<td class="wrap">{listed}</td></tr>'
        )
    head = '<tr><th>dataset</th><th>read</th><th>kept</th><th>rejected</th><th class="wrap">for</th></tr>'
    return (
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
        '<p class="soft">Identical and nearly identical images share a fold; images of two folds that are '
        "alike stop the run.</p>"
    )


def _run(findings: Findings, ranked: Sequence[Ranking]) -> str:
    params = findings.params
    versions = ", ".join(f"{r.dataset} {r.version}" for r in ranked if r.dataset != UNION)
    clocks = findings.board.select("device", "threads").unique().sort("device", "threads").rows()
    facts = {
        "source": source_note(params.data.source),
        "dataset versions": versions,
        "images": f"{params.normalize.height} × {params.normalize.width} pixels, grey",
        "folds": f"{', '.join(map(str, params.grid.folds))} of {params.folds.count}",
        "trained on the merged datasets": ", ".join(params.grid.union) or "none",
        "timed on": "; ".join(f"{device}, {threads} threads" for device, threads in clocks),
    }
    rows = "".join(f'<tr><td>{escape(k)}</td><td class="wrap">{escape(v)}</td></tr>' for k, v in facts.items())
    return (
        f"<table><tbody>{rows}</tbody></table><details><summary>params.yaml</summary>"
        f"<pre>{escape(findings.params_text)}</pre></details>"
    )


def _models(findings: Findings) -> list[str]:
    """The models in the order of params.yaml, then those trained on the merged datasets alone."""
    return list(dict.fromkeys((*findings.params.grid.models, *findings.params.grid.union)))


def _row(tag: str, cells: Sequence[str], wide: range) -> str:
    """One line of a table; `wide` are the columns that a narrow screen leaves out."""
    marked = (f"<{tag}{' class=wide' if i in wide else ''}>{cell}</{tag}>" for i, cell in enumerate(cells))
    return f"<tr>{''.join(marked)}</tr>"
