"""reports/index.html: one file that tells the whole result, from disk and without a network."""

import json
from collections.abc import Callable
from html import escape
from importlib.resources import files
from string import Template

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.script import vega_script
from captchabench.report.sections import (
    ambiguity,
    audit,
    calibration,
    change,
    cost,
    curves,
    gallery,
    leaderboard,
    mistakes,
    provenance,
    robustness,
    summary,
    suspects,
    tiles,
    transfer,
)

# Id, word in the bar, heading, and what writes the section.
_SECTIONS: tuple[tuple[str, str, str, Callable[[Findings, Figures], str]], ...] = (
    ("results", "Leaderboard", "Leaderboard", lambda found, _: leaderboard.section(found)),
    ("change", "Change", "Since the last commit", lambda found, _: change.section(found)),
    ("curves", "Learning", "Learning curves", curves.section),
    ("mistakes", "Confusion", "What is mistaken for what", mistakes.section),
    ("tiles", "Tiles", "Grids, tile by tile", lambda found, _: tiles.section(found)),
    ("transfer", "Transfer", "Trained on one, reading another", transfer.section),
    ("robustness", "Robustness", "When images get worse", robustness.section),
    ("calibration", "Confidence", "What a confidence is worth", calibration.section),
    ("cost", "Cost", "What accuracy costs", cost.section),
    ("errors", "Errors", "Errors to look at", lambda found, _: gallery.section(found)),
    ("data", "Data", "The data", audit.section),
    ("ambiguity", "Ceiling", "What can be read at all", lambda found, _: ambiguity.section(found)),
    ("labels", "Labels", "Labels that may be wrong", lambda found, _: suspects.section(found)),
    ("run", "Run", "What was run", lambda found, _: provenance.section(found)),
)


def page(findings: Findings) -> str:
    """The page as one HTML document: styles, images, charts and the script that draws them are inside."""
    figures = Figures()
    body = [
        f"<header>{summary.section(findings)}</header>{_bar(findings)}",
        f'<main style="--shape: {findings.shape(findings.members[0].dataset)}">',
        *(
            f'<section id="{name}" aria-labelledby="{name}-head"><h2 id="{name}-head">{heading}</h2>'
            f"{write(findings, figures)}</section>"
            for name, _, heading, write in _SECTIONS
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


def _bar(findings: Findings) -> str:
    """Links to the sections and the menu that shows one dataset alone, always in reach."""
    options = "".join(f"<option>{escape(ranking.dataset)}</option>" for ranking in findings.ranked)
    links = "".join(f'<li><a href="#{name}">{word}</a></li>' for name, word, _, _ in _SECTIONS)
    return (
        '<nav class="bar" aria-label="Sections"><label>Dataset <select id="dataset" autocomplete="off">'
        f'<option value="all">all</option>{options}</select></label><ul>{links}</ul></nav>'
    )
