"""The charts of the page, each with a caption, an alternative text and the source of its images."""

from html import escape
from typing import Any

from captchabench.report.markup import only, tag


class Figures:
    """Collects the charts of the page. specs: Vega-Lite specification by the id of the HTML element."""

    def __init__(self) -> None:
        self.specs: dict[str, dict[str, Any]] = {}

    @property
    def following(self) -> str:
        """The id that the next chart gets."""
        return f"figure-{len(self.specs) + 1}"

    def add(self, spec: dict[str, Any], caption: str, alt: str, source: str, *, dataset: str = "") -> str:
        """Add a chart and return its HTML element.

        alt: the message of the chart in words, for readers who cannot see it. dataset: if it shows only one.
        """
        name = self.following
        self.specs[name] = spec
        return (
            f'<figure{only(dataset)}><div class="chart" id="{name}" role="img" aria-label="{escape(alt)}"></div>'
            f"<figcaption>{escape(caption)} {tag(source)}</figcaption></figure>"
        )
