"""The page's charts, as Vega-Lite specifications."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from captchabench.evaluation.alignment import INSERTED
from captchabench.evaluation.leaderboard import OTHER

# Told apart by most colour-blind readers, and visible on white and on near-black.
_PALETTE = ("#3b7dd8", "#e07b39", "#2a9d73", "#b05fc4", "#c9a227", "#d1495b", "#5aa9c4", "#8a8f98")


def accuracy(board: pl.DataFrame, datasets: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """Exact match of every model on every dataset, with 95 % intervals: a dot plot."""
    shown = board.select("dataset", "source", "model", "n", "exact", "exact_lo", "exact_hi")
    places = {
        "y": alt.Y("dataset:N", title=None, sort=list(datasets), axis=alt.Axis(grid=True, tickBand="extent")),
        "yOffset": alt.YOffset("model:N", sort=list(models)),
        "color": _model_colour(models, models),
    }
    base = alt.Chart(alt.InlineData(values=shown.to_dicts())).encode(**places)
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format="%", title="exact match", tickCount=5)
    rule = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("exact_lo:Q", scale=scale, axis=axis), x2="exact_hi:Q"
    )
    tooltip = [
        alt.Tooltip("dataset:N"),
        alt.Tooltip("source:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("exact:Q", format=".2%"),
        alt.Tooltip("exact_lo:Q", format=".2%"),
        alt.Tooltip("exact_hi:Q", format=".2%"),
        alt.Tooltip("n:Q", title="images"),
    ]
    dot = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("exact:Q", scale=scale, axis=axis), tooltip=tooltip
    )
    return _finished(alt.layer(rule, dot), height=alt.Step(max(12, 72 // len(models))))


def learning_curves(curves: pl.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    """Exact match on the validation part by epoch: one dataset's curves, a line a model and fold.

    `models` are all of the page, so that each keeps its colour.
    """
    shown = [model for model in models if model in set(curves["model"])]
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("fold:O"),
        alt.Tooltip("epoch:Q", format=".1f"),
        alt.Tooltip("validation_exact:Q", format=".2%", title="exact"),
        alt.Tooltip("train_loss:Q", format=".4f"),
    ]
    data = alt.InlineData(values=curves.select(pl.exclude("dataset", "step")).to_dicts())
    base = alt.Chart(data).encode(
        x=alt.X("epoch:Q", title="epoch"),
        y=alt.Y("validation_exact:Q", title="exact, validation", scale=alt.Scale(domain=[0, 1]), axis=_percent()),
        color=_model_colour(models, shown),
        detail="fold:O",
        tooltip=tooltip,
    )
    # A model that is fitted in one go has one point, which a line alone would not show.
    return _finished(base.mark_line(point=alt.OverlayMarkDef(size=18)), height=200)


def mistakes(confusions: pl.DataFrame, dataset: str, model: str) -> dict[str, Any]:
    """Which character is read as which, hits in grey; dataset and model are chosen in two menus.

    A mistake is coloured by its share of the actual character's occurrences, an insertion by its number
    for each occurrence of the inserted character.
    """
    cell = ["dataset", "model"]
    support = (
        confusions.filter(pl.col("actual") != INSERTED)
        .group_by(*cell, pl.col("actual").alias("symbol"))
        .agg(pl.col("count").sum().alias("support"))
    )
    symbol = pl.when(pl.col("actual") == INSERTED).then("predicted").otherwise("actual").alias("symbol")
    mistaken = pl.col("actual") != pl.col("predicted")
    # A character that no label holds can be inserted too.
    share = (pl.col("count") / pl.col("support").fill_null(1)).clip(0, 1).round(5)
    shown = (
        confusions.filter(pl.col("predicted") != OTHER)
        .with_columns(symbol)
        .join(support, on=[*cell, "symbol"], how="left", maintain_order="left")
        # Hits have no share, so that the scale is that of the mistakes.
        .with_columns(pl.when(mistaken).then(share).alias("share"))
        .select(*cell, "actual", "predicted", "count", "share")
    )
    # A table of text is a quarter of the same as a list of objects.
    parse = {"count": "number", "share": "number"}
    data = alt.InlineData(values=shown.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
    symbols = sorted({*shown["actual"], *shown["predicted"]}, key=lambda s: (len(s), s))
    chart = (
        alt.Chart(data)
        .transform_filter("datum.dataset === dataset && datum.model === model")
        .mark_rect(invalid=None)
        .encode(
            x=alt.X("predicted:N", title="read as", sort=symbols, axis=alt.Axis(labelAngle=0, orient="top")),
            y=alt.Y("actual:N", title="actual", sort=symbols),
            color=alt.condition(
                "datum.actual === datum.predicted",
                alt.value("#88888833"),
                alt.Color(
                    "share:Q",
                    title="share of the character",
                    scale=alt.Scale(scheme="orangered", type="sqrt"),
                    legend=alt.Legend(format=".0%", orient="bottom", direction="horizontal"),
                ),
            ),
            tooltip=["actual:N", "predicted:N", "count:Q", alt.Tooltip("share:Q", format=".2%")],
        )
        .add_params(
            _menu("dataset", dataset, shown["dataset"].unique().sort().to_list()),
            _menu("model", model, shown["model"].unique().sort().to_list()),
        )
    )
    return _finished(chart, height=440)


def _menu(name: str, value: str, options: Sequence[str]) -> alt.Parameter:
    return alt.param(name=name, value=value, bind=alt.binding_select(options=list(options), name=f"{name} "))


def _percent() -> alt.Axis:
    return alt.Axis(format="%")


def _model_colour(models: Sequence[str], shown: Sequence[str]) -> alt.Color:
    """The colour of each model, the same in all charts; the legend names those `shown`."""
    colours = {model: _PALETTE[i % len(_PALETTE)] for i, model in enumerate(models)}
    scale = alt.Scale(domain=list(shown), range=[colours[model] for model in shown])
    return alt.Color("model:N", title=None, scale=scale, legend=alt.Legend(orient="bottom", columns=3))


def _finished(chart: alt.Chart | alt.LayerChart, height: int | alt.Step) -> dict[str, Any]:
    """The specification, as wide as its place, in the colours of the text around it."""
    font = "system-ui, sans-serif"
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFont": font, "titleFont": font}
    styled = (
        chart.properties(width="container", height=height, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor="currentColor",
            gridOpacity=0.12,
            domainColor="currentColor",
            domainOpacity=0.3,
            tickColor="currentColor",
            tickOpacity=0.3,
            titleFontWeight="normal",
            labelFontSize=11,
            titleFontSize=12,
            **ink,
        )
        .configure_legend(labelFontSize=12, **ink)
    )
    return dict(styled.to_dict())
