"""reports/index.html: one file with all results, which opens from disk without a network."""

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

_TITLE = "captchabench: how much of a CAPTCHA do recognisers read?"


def page(findings: Findings) -> str:
    """The page of the benchmark: all sections."""
    return document(findings, _TITLE, summary.head(findings), sections())


def document(findings: Findings, title: str, head: str, listed: Sequence[Section]) -> str:
    """A page as one HTML document that contains its styles, images, charts and scripts. head: HTML above the bar."""
    figures = Figures()
    body = [
        f"<header>{head}</header>{_bar(findings, listed)}",
        f'<main style="--shape: {findings.shape(findings.members[0].dataset)}">',
        *(
            f'<section id="{section.name}" aria-labelledby="{section.name}-head">'
            f'<h2 id="{section.name}-head">{section.heading}</h2>{section.write(findings, figures)}</section>'
            for section in listed
        ),
        "</main>",
    ]
    data = json.dumps(
        {"figures": figures.specs, "pictures": dict(findings.pictures)}, sort_keys=True, ensure_ascii=False
    )
    package = files("captchabench.report")

    def text(name: str) -> str:
        return package.joinpath(name).read_text(encoding="utf-8").strip()

    return Template(text("page.html") + "\n").substitute(
        title=escape(title),
        style=text("page.css"),
        body="\n".join(body),
        # "</script" in the data would end the script early, and "<!--" could keep it from ending.
        data=data.replace("<", "\\u003c"),
        bundle=vega_script(),
        script=text("page.js"),
    )


def _bar(findings: Findings, listed: Sequence[Section]) -> str:
    """The bar that stays at the top: the filter by dataset, if there are several, and links to the sections."""
    hidden = " hidden" if len(findings.ranked) == 1 else ""
    options = "".join(f"<option>{escape(ranking.dataset)}</option>" for ranking in findings.ranked)
    links = "".join(f'<li><a href="#{section.name}">{section.link}</a></li>' for section in listed)
    return (
        '<nav class="bar" aria-label="Sections">'
        f'<label{hidden}>Dataset <select id="dataset" autocomplete="off">'
        f'<option value="all">all</option>{options}</select></label><ul>{links}</ul></nav>'
    )
