"""The head of the page, written as sections are: title, notice on stand-ins, and the best result on each dataset."""

from html import escape

from captchabench.report.findings import Findings
from captchabench.report.markup import only
from captchabench.report.tables import interval, percent
from captchabench.studies.carry import CARRY


def head(findings: Findings) -> str:
    """The title, the notice and one card per dataset."""
    models = findings.board["model"].n_unique()
    cards = []
    for ranking in findings.members:
        best = ranking.rows[0]
        cards.append(
            f'<li class="card"{only(ranking.dataset)}><span class="soft">{escape(ranking.dataset)}</span>'
            f"<b>{percent(best['exact'])}</b>{escape(best['reader'])}"
            f'<span class="soft">{interval(best)} (95 % interval)</span>'
            f'<span class="soft">{ranking.images}{", all nine right" * ranking.grids}</span></li>'
        )
    notice = ""
    if any(ranking.source == "standin" for ranking in findings.ranked):
        notice = (
            f'<p class="notice">{_which(findings)} stand-ins that the program drew itself in the look of each '
            f"dataset. {_none(findings)} is a result on the Kaggle images{_but(findings)}.</p>"
        )
    return (
        f"<h1>How much of a CAPTCHA do {models} recognisers read?</h1>"
        f'<p class="soft">The best recogniser on each of {len(findings.members)} datasets, and the share of held-out '
        f'images that it read entirely right.</p>{notice}<ul class="cards">{"".join(cards)}</ul>'
    )


def _drawn(findings: Findings) -> list[str]:
    return [ranking.dataset for ranking in findings.ranked if ranking.source == "standin"]


def _which(findings: Findings) -> str:
    drawn = _drawn(findings)
    return "These images are" if len(drawn) == len(findings.ranked) else f"Images of {escape(', '.join(drawn))} are"


def _none(findings: Findings) -> str:
    return "No number here" if len(_drawn(findings)) == len(findings.ranked) else "No number on them"


def _but(findings: Findings) -> str:
    return "" if findings.tables[CARRY].is_empty() else ", except in the comparison with archives"
