"""What all charts of the page share: colours, marks, axes, and the look of the text around them."""

from collections.abc import Sequence
from html import escape
from typing import Any

import altair as alt

# Each at least 3 : 1 on the paper of both themes. Marks differ in shape too, so colour is never alone.
PALETTE = ("#3b7dd8", "#c4611c", "#23875f", "#a855c0", "#94770c", "#d1495b", "#2b8aa3", "#757b84")
# Vega's names, and the same outlines from -5 to 5 for the legend.
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

# The script sets it to what the reader's system prefers.
DARK = alt.param(name="dark", value=False)

# Ends of a shade, near the paper and far from it; each as (light theme, dark theme).
BLUES = (("#e9eff9", "#232b36"), ("#0a3a8a", "#8ab8ff"))
REDS = (("#fbdcc6", "#4b2416"), ("#a50f15", "#ffb48a"))

_FONT = "system-ui, sans-serif"


def of_reader(readers: Sequence[str]) -> dict[str, Any]:
    """The channels that tell readers apart: colour and shape. The page's `legend` names them."""

    def scale(values: Sequence[str]) -> alt.Scale:
        return alt.Scale(domain=list(readers), range=[_cycled(values, number) for number in range(len(readers))])

    return {
        "color": alt.Color("reader:N", scale=scale(PALETTE), legend=None),
        "shape": alt.Shape("reader:N", scale=scale(tuple(SHAPES)), legend=None),
    }


def legend(readers: Sequence[str]) -> str:
    """The marks of `of_reader` as HTML: one legend for all charts of a section, which wraps on narrow screens."""
    entries = (
        f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true"><path fill="{_cycled(PALETTE, number)}" '
        f'd="{SHAPES[_cycled(tuple(SHAPES), number)]}"/></svg>{escape(reader)}</li>'
        for number, reader in enumerate(readers)
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _cycled(values: Sequence[str], number: int) -> str:
    return values[number % len(values)]


def share_axis(title: str | None, channel: type[alt.X] | type[alt.Y], field: str) -> alt.X | alt.Y:
    """An axis from 0 to 1 in per cent."""
    return channel(f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))


def menu(name: str, value: str) -> alt.Parameter:
    """A parameter that a menu of the page sets."""
    return alt.param(name=name, value=value)


def shade(low: tuple[str, str], high: tuple[str, str], **scale: Any) -> alt.Scale:
    """A share as depth of colour, from near the paper of the theme to far from it: (light, dark) of both ends."""
    ends = [alt.ExprRef(expr=f"dark ? '{dark}' : '{light}'") for light, dark in (low, high)]
    return alt.Scale(range=ends, interpolate="lab", **scale)


def ink_on_blues(field: str) -> str:
    """The expression for black or white, whichever reads better on the shade BLUES of a field."""
    return f"(datum.{field} > (dark ? 0.54 : 0.64)) === dark ? '#000000' : '#ffffff'"


def finished(chart: alt.Chart | alt.LayerChart, height: int) -> dict[str, Any]:
    """The specification, as wide as its place, in the colours of the text around it."""
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
    # Tests compile every chart; looking for mistakes each time would take longer than all else on the page.
    return dict(styled.to_dict(validate=False))
