"""The page's charts: each has a place, a caption, a text for who cannot see it, and says what it shows images of."""

from html import escape
from typing import Any

from captchabench.report.markup import only, tag


class Figures:
    """The page's charts by the id of their place."""

    def __init__(self) -> None:
        self.specs: dict[str, dict[str, Any]] = {}

    @property
    def following(self) -> str:
        """The id that the next chart gets."""
        return f"figure-{len(self.specs) + 1}"

    def add(self, spec: dict[str, Any], caption: str, alt: str, source: str, *, dataset: str = "") -> str:
        """Enter a chart; return its place.

        alt: what a sighted reader takes from the chart, in words. dataset: the only one it shows, if any.
        """
        name = self.following
        self.specs[name] = spec
        return (
            f'<figure{only(dataset)}><div class="chart" id="{name}" role="img" aria-label="{escape(alt)}"></div>'
            f"<figcaption>{escape(caption)} {tag(source)}</figcaption></figure>"
        )
