"""Colours, marks, axes and text styles that all charts share."""

from collections.abc import Container, Sequence
from html import escape
from typing import Any

import altair as alt

# Each has a contrast of at least 3 : 1 in both themes. Marks differ in shape as well as in colour.
PALETTE = ("#3b7dd8", "#c4611c", "#23875f", "#a855c0", "#94770c", "#d1495b", "#2b8aa3", "#757b84")
# Vega's names of the shapes, and their outlines from -5 to 5 for the legend.
SHAPES = {
    "circle": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
    "square": "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "triangle-up": "M0,-5L5,4.5H-5Z",
    "diamond": "M0,-6L5,0L0,6L-5,0Z",
    "cross": "M-2,-5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z",
    "triangle-down": "M0,5L5,-4.5H-5Z",
    "triangle-right": "M5,0L-4.5,5V-5Z",
    "triangle-left": "M-5,0L4.5,5V-5Z",
}

# page.js sets it to the theme of the reader's system.
DARK = alt.param(name="dark", value=False)

# Ends of a colour scale, low and high, each as (light theme, dark theme).
BLUES = (("#e9eff9", "#232b36"), ("#0a3a8a", "#8ab8ff"))
REDS = (("#fbdcc6", "#4b2416"), ("#a50f15", "#ffb48a"))

_FONT = "system-ui, sans-serif"


def of_reader(readers: Sequence[str]) -> dict[str, Any]:
    """The channels that distinguish readers: colour and shape. `legend` explains them."""

    def scale(values: Sequence[str]) -> alt.Scale:
        return alt.Scale(domain=list(readers), range=[_cycled(values, number) for number in range(len(readers))])

    return {
        "color": alt.Color("reader:N", scale=scale(PALETTE), legend=None),
        "shape": alt.Shape("reader:N", scale=scale(tuple(SHAPES)), legend=None),
    }


def legend(readers: Sequence[str], shown: Container[str] | None = None) -> str:
    """The marks of `of_reader` as an HTML list: one legend for all charts of a section. shown: all, if None."""
    entries = (
        f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true"><path fill="{_cycled(PALETTE, number)}" '
        f'd="{SHAPES[_cycled(tuple(SHAPES), number)]}"/></svg>{escape(reader)}</li>'
        for number, reader in enumerate(readers)
        if shown is None or reader in shown
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _cycled(values: Sequence[str], number: int) -> str:
    return values[number % len(values)]


def share_axis(title: str | None, channel: type[alt.X] | type[alt.Y], field: str) -> alt.X | alt.Y:
    """An axis from 0 to 1 in per cent."""
    return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))


def menu(name: str, value: str) -> alt.Parameter:
    """A chart parameter that a menu of the page sets."""
    return alt.param(name=name, value=value)


def shade(low: tuple[str, str], high: tuple[str, str], **scale: Any) -> alt.Scale:
    """A colour scale for shares. low, high: the colours of its ends, as (light theme, dark theme)."""
    ends = [alt.ExprRef(expr=f"dark ? '{dark}' : '{light}'") for light, dark in (low, high)]
    return alt.Scale(range=ends, interpolate="lab", **scale)


def ink_on_blues(field: str) -> str:
    """A Vega expression: black or white, whichever has more contrast on the colour of `field` in BLUES."""
    return f"(datum.{field} > (dark ? 0.54 : 0.64)) === dark ? '#000000' : '#ffffff'"


def finished(chart: alt.Chart | alt.LayerChart, height: int) -> dict[str, Any]:
    """The Vega-Lite specification, as wide as its container, in the colours of the surrounding text. height: pixels."""
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFont": _FONT, "titleFont": _FONT}
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
        .configure_legend(labelFontSize=11, titleFontSize=12, titleFontWeight="normal", **ink)
        .configure_text(font=_FONT)
    )
    # The tests compile every chart. Validation here would take longer than the rest of the page.
    return dict(styled.to_dict(validate=False))
