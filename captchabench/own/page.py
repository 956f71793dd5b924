"""The page of a run: the benchmark's sections about one set, with what was found and how many images are needed."""

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

import altair as alt
import polars as pl

from captchabench.audit import audit
from captchabench.config import (
    DataParams,
    FoldParams,
    MatrixParams,
    NormalizeParams,
    Params,
    TileCells,
    TileParams,
    TrainingParams,
)
from captchabench.own.forecast import Forecast
from captchabench.own.preparing import FOLDS, SOURCE
from captchabench.own.results import TARGETS, Results, ends, score_ends
from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.inputs import Cleaning
from captchabench.report.markup import Column, Row, table
from captchabench.report.page import document
from captchabench.report.pictures import misreadings, of_suspects, pictures
from captchabench.report.runs import PUBLISHED_SCHEMA
from captchabench.report.sections import audit as data
from captchabench.report.sections import calibration, gallery, leaderboard, mistakes, suspects, tiles
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent
from captchabench.samples.shards import read_samples
from captchabench.scoring.intervals import wilson
from captchabench.scoring.leaderboard import CLASSES, CONFUSIONS
from captchabench.studies.confidence import CALIBRATION, RISK
from captchabench.studies.label_errors import SUSPECTS

_EXAMPLES = 6
_CHART_POINTS = 25


def own_page(results: Results, figures: Mapping[str, Any]) -> str:
    """The page as one HTML document. figures: those of `results`."""
    findings = _findings(results)
    shown = [
        Section(0, "found", "Images", "What was found", lambda f, _: _found(results, f)),
        replace(leaderboard.SECTION, link="Results", heading="Results"),
        Section(0, "needed", "How many", "How many images are needed", lambda _, g: _needed(results, g)),
        *([tiles.SECTION] if results.grids else []),
        gallery.SECTION,
        mistakes.SECTION,
        suspects.SECTION,
        calibration.SECTION,
        data.SECTION,
    ]
    name = results.run.cell.dataset
    return document(findings, f"captchabench: {name}", _head(results, figures), shown)


def _findings(results: Results) -> Findings:
    """What the benchmark's sections read."""
    run = results.run
    name, size, found = run.cell.dataset, run.prepared.found.size, run.prepared.found
    models = tuple(dict.fromkeys(cell.model for cell in run.cells()))
    texts = MatrixParams((name,), models, (), run.folds)
    matrix = MatrixParams((), (), (), run.folds, TileCells((name,), models)) if found.tiles else texts
    reliability, risk = results.confidences
    tables = {
        CLASSES: results.classes,
        CONFUSIONS: results.confusions,
        SUSPECTS: results.suspects,
        CALIBRATION: reliability,
        RISK: risk,
    }
    shards = run.folder / "shards"
    wrong = misreadings(run.folder / "predictions", matrix)
    examples = _examples(results)
    figures = run.prepared.figures
    rejected = dict(figures["rejected"])
    return Findings(
        board=results.board,
        tables=tables,
        cleaning=[
            Cleaning(name, SOURCE, figures["images_read"], figures["kept"], rejected, dict(figures["symbols"])),
        ],
        audit=audit([shards / name], FOLDS, workers=1).figures,
        misreadings=wrong,
        pictures=pictures(
            shards,
            [
                *((name, sample_id) for sample_id, _ in examples),
                *((m.dataset, m.sample_id) for m in wrong),
                *of_suspects(results.suspects),
            ],
        ),
        params=Params(
            data=DataParams(),
            normalize=NormalizeParams(size.height, size.width, size.resize),
            folds=FoldParams(FOLDS),
            datasets={},
            matrix=matrix,
            training=TrainingParams(),
            tiles=TileParams(height=size.height, width=size.width) if found.tiles else TileParams(),
        ),
        params_text="",
        runs=(),
        published=pl.DataFrame(schema=PUBLISHED_SCHEMA),
    )


def _examples(results: Results) -> list[tuple[str, str]]:
    """The sample_ids of a few images, and their labels, spread evenly over the set."""
    name = results.run.cell.dataset
    samples = read_samples(results.run.folder / "shards" / name)
    rows = sorted({round(i * (len(samples) - 1) / (_EXAMPLES - 1)) for i in range(_EXAMPLES)})
    return [(samples.sample_ids[row], samples.labels[row]) for row in rows]


def _head(results: Results, all_figures: Mapping[str, Any]) -> str:
    found, counts = results.run.prepared.found, results.counts
    figures = all_figures["result"]
    if results.grids:
        f1, tiles_right, solved = (
            figures[f"{name}_interval"] for name in ("macro_f1", "tiles_right", "challenges_solved")
        )
        cards = [
            _card("macro F1", f"{figures['macro_f1']:.3f}", "mean over classes", score_ends(f1)),
            _card("tiles", percent(figures["tiles_right"]), "read right", ends(tiles_right)),
            _card("challenges", percent(figures["challenges_solved"]), "all tiles of a class in 3×3", ends(solved)),
        ]
        for name, other in all_figures["baseline"].items():
            cards.append(_card("tiles, by a simpler model", percent(other["tiles_right"]), f"{name}, linear", ""))
    else:
        cards = [_card("exact match", percent(figures["exact"]), "whole text right", ends(figures["exact_interval"]))]
        if found.case_occurs:
            folded = ends(figures["exact_folded_interval"])
            cards.append(_card("case-folded", percent(figures["exact_folded"]), "case ignored", folded))
        cer = figures["cer_interval"]
        cards.append(_card("CER", percent(figures["cer"]), "edits per character", ends(cer) if cer else ""))
    if doubled := results.doubled:
        cards.append(_card("with twice the images", percent(doubled.share), "forecast", ends(doubled.interval)))
    what = f"{counts.n:,} {'grids of nine tiles' if results.grids else 'images'}"
    share = "each image was held out once" if len(results.run.folds) > 1 else "a fifth of the images was held out"
    return (
        f"<h1>How much of {escape(found.name)} does a recogniser read?</h1>"
        f'<p class="soft">{escape(results.run.plan.model)}, trained on your images, read {what} that it was not '
        f'trained on: {share}.</p><ul class="cards">{"".join(cards)}</ul>'
    )


def _card(title: str, value: str, note: str, interval: str) -> str:
    below = f'<span class="soft">{interval} (95 % interval)</span>' if interval else ""
    return f'<li class="card"><span class="soft">{title}</span><b>{value}</b>{note}{below}</li>'


def _found(results: Results, findings: Findings) -> str:
    """The rule, examples with their labels, and what was left out."""
    run = results.run
    found = run.prepared.found
    classes = results.cells[0].class_names
    items = []
    for sample_id, label in _examples(results):
        text = escape(", ".join(classes[symbol] for symbol in label) if classes else label)
        shown = text if classes else f"<code>{text}</code>"
        items.append(f'<li><img data-picture="{escape(sample_id)}" alt="{text}"><span>{shown}</span></li>')
    rows = [
        ("Labels", f"by <code>{escape(found.images.rule)}</code>"),
        ("Images", f"{len(found.labels):,} with a label, {run.prepared.kept:,} used"),
        (
            "Left out",
            ", ".join(f"{escape(reason)} {number:,}" for reason, number in run.prepared.left_out.items()) or "nothing",
        ),
        ("Sizes", ", ".join(f"{width}×{height}" for width, height in list(found.sizes)[:5])),
        ("Read at", f"{found.size.width}×{found.size.height} pixels, grey, {found.size.resize}"),
    ]
    if found.tiles:
        rows.insert(1, ("Classes", ", ".join(map(escape, classes.values()))))
    else:
        lengths = ", ".join(f"{length} ({number:,}×)" for length, number in found.lengths.items())
        rows.insert(1, ("Alphabet", f"<code>{escape(found.alphabet)}</code> ({len(found.alphabet)} symbols)"))
        rows.insert(2, ("Lengths", lengths))
    listed = "".join(f"<dt>{title}</dt><dd>{text}</dd>" for title, text in rows)
    shape = findings.shape(run.cell.dataset)
    return f'<dl>{listed}</dl><ul class="pictures" style="--shape: {shape}">{"".join(items)}</ul>'


def _needed(results: Results, figures: Figures) -> str:
    """What models read that were trained on a part of the images, and what more images would bring."""
    curve, doubled = results.curve, results.doubled
    if curve is None or doubled is None:
        return '<p class="soft">There are too few images for a curve.</p>'
    what = "tiles" if results.grids else "images"
    last = curve.points[-1]
    words = [
        f"Trained on {last.images:,} {what}, the model reads {percent(last.right / last.total)}. With twice as many "
        f"it would read about {percent(doubled.share)} (95 % interval {ends(doubled.interval)})."
    ]
    if doubled.share < last.right / last.total:
        words.append("The marks scatter more than they rise, so the forecast is rough.")
    for target in TARGETS:
        needed = curve.needed(target)
        words.append(_sentence(target, needed, last.images, what))
        if needed is None:
            # Those above it need more still.
            break
    rows = [
        Row([f"{p.images:,}", percent(p.right / p.total), ends(wilson(p.right, p.total)), "measured"])
        for p in curve.points
    ]
    rows.append(Row([f"{doubled.images:,}", percent(doubled.share), ends(doubled.interval), "forecast"]))
    columns = [Column(f"training {what}"), Column("read right"), Column("95 % interval"), Column("", words=True)]
    chart = figures.add(
        _chart(results, what),
        f"Held-out {what} read right against the number of training {what}. Marks: measured, with Wilson intervals. "
        "Line and band: a power law of the odds of an error, fitted to the marks, with the interval of what would be "
        "measured. Beyond the last mark it is a forecast.",
        "Learning curve over the number of images; the table below has its numbers.",
        SOURCE,
    )
    return (
        f"<p>{' '.join(words)}</p>"
        + f'<div class="narrow">{chart}</div>'
        + table("The same in numbers.", columns, rows)
    )


def _sentence(target: float, needed: int | None, images: int, what: str) -> str:
    if needed is None:
        return f"More than {8 * images:,} would be needed for {target:.0%}."
    if needed <= 1.1 * images:
        return ""
    return f"About {needed:,} training {what} would be needed for {target:.0%}."


def _chart(results: Results, what: str) -> dict[str, Any]:
    curve = results.curve
    assert curve is not None
    first, last = curve.points[0].images, curve.points[-1].images
    steps = [round(first * (2 * last / first) ** (i / (_CHART_POINTS - 1))) for i in range(_CHART_POINTS)]
    fitted: list[Forecast] = [curve.at(images) for images in steps]
    band = [{"images": f.images, "share": f.share, "low": f.interval.low, "high": f.interval.high} for f in fitted]
    marks = []
    for point in curve.points:
        low, high = wilson(point.right, point.total)
        marks.append({"images": point.images, "share": point.right / point.total, "low": low, "high": high})
    x = alt.X("images:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(title=f"training {what}", format="~s"))
    lowest = min(row["low"] for row in (*band, *marks))
    scale = alt.Scale(domain=[max(0.0, lowest - 0.02), 1])
    y = alt.Y("share:Q", title="read right", scale=scale, axis=alt.Axis(format="%", tickCount=5))
    of_fit = alt.Chart(alt.InlineData(values=band)).encode(x=x)
    of_marks = alt.Chart(alt.InlineData(values=marks)).encode(x=x)
    tooltip = [
        alt.Tooltip("images:Q", format=","),
        alt.Tooltip("share:Q", format=".2%"),
        alt.Tooltip("low:Q", format=".2%"),
        alt.Tooltip("high:Q", format=".2%"),
    ]
    colour = charts.PALETTE[0]
    layers = [
        of_fit.mark_area(opacity=0.18, color=colour).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        of_fit.mark_line(color=colour, strokeDash=[5, 4]).encode(y=y),
        of_marks.mark_rule(color=colour, strokeWidth=2).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        of_marks.mark_point(filled=True, size=70, opacity=1, color=colour).encode(y=y, tooltip=tooltip),
    ]
    return charts.finished(alt.layer(*layers), height=260)
