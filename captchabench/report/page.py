"""reports/index.html: one file that tells the whole result, from disk and without a network."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from captchabench.report import summary
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.script import vega_script
from captchabench.report.sections.base import Section, sections


def page(findings: Findings) -> str:
    """The page as one HTML document: styles, images, charts and the script that draws them are inside."""
    figures, parts_of_page = Figures(), sections()
    body = [
        f"<header>{summary.head(findings)}</header>{_bar(findings, parts_of_page)}",
        f'<main style="--shape: {findings.shape(findings.members[0].dataset)}">',
        *(
            f'<section id="{part.name}" aria-labelledby="{part.name}-head">'
            f'<h2 id="{part.name}-head">{part.heading}</h2>{part.write(findings, figures)}</section>'
            for part in parts_of_page
        ),
        "</main>",
    ]
    data = json.dumps(
        {"figures": figures.specs, "pictures": dict(findings.pictures)}, sort_keys=True, ensure_ascii=False
    )
    parts = files("captchabench.report")

    def text(name: str) -> str:
        return parts.joinpath(name).read_text(encoding="utf-8").strip()

    return Template(text("page.html") + "\n").substitute(
        style=text("page.css"),
        body="\n".join(body),
        # "</" inside a script could end it early, "<!--" could keep it from ending.
        data=data.replace("<", "\\u003c"),
        bundle=vega_script(),
        script=text("page.js"),
    )


def _bar(findings: Findings, parts: Sequence[Section]) -> str:
    """Links to the sections and the menu that shows one dataset alone, always in reach."""
    options = "".join(f"<option>{escape(ranking.dataset)}</option>" for ranking in findings.ranked)
    links = "".join(f'<li><a href="#{part.name}">{part.word}</a></li>' for part in parts)
    return (
        '<nav class="bar" aria-label="Sections"><label>Dataset <select id="dataset" autocomplete="off">'
        f'<option value="all">all</option>{options}</select></label><ul>{links}</ul></nav>'
    )
