"""Misread images of each model: those with the most edits and those with the highest confidence."""

from difflib import SequenceMatcher
from html import escape

from captchabench.datasets.base import ROWS
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import menus, tag
from captchabench.report.pictures import SUREST, WORST, Misreading
from captchabench.report.sections.base import Section
from captchabench.report.tables import Ranking

_TITLES = {WORST: "Most characters wrong", SUREST: "Wrong with the highest confidence"}


def section(findings: Findings, _: Figures) -> str:
    """One panel per dataset and reader; the menus show one of them."""
    first = findings.members[0]
    names = sorted({row["reader"] for ranking in findings.members for row in ranking.rows}, key=findings.readers.index)
    chooser = menus(
        ["gallery"],
        {"dataset": [ranking.dataset for ranking in findings.members], "model": names},
        {"dataset": first.dataset, "model": first.rows[0]["reader"]},
    )
    selected = (first.dataset, first.rows[0]["reader"])
    panels = [
        _panel(findings, ranking, reader, shown=(ranking.dataset, reader) == selected)
        for ranking in findings.members
        for reader in names
    ]
    return f'{chooser}<div id="gallery">{"".join(panels)}</div>'


def _panel(findings: Findings, ranking: Ranking, reader: str, *, shown: bool) -> str:
    misread = [m for m in findings.misreadings if (m.dataset, m.reader) == (ranking.dataset, reader)]
    row = next((row for row in ranking.rows if row["reader"] == reader), None)
    if row is None:
        text = f'<p class="soft">{escape(reader)} was not run on {escape(ranking.dataset)}.</p>'
    else:
        wrong = row["n"] - round(row["exact"] * row["n"])
        text = (
            f'<p class="soft">{escape(reader)} misread {wrong:,} of {row["n"]:,} images of '
            f"{escape(ranking.dataset)}. {tag(ranking.source)}</p>"
        )
    lists = "".join(
        f"<h3>{_title(title, ranking)}</h3>"
        f'<ul class="pictures">{"".join(_item(m) for m in misread if m.kind == kind)}</ul>'
        for kind, title in _TITLES.items()
        if misread
    )
    hidden = "" if shown else " hidden"
    shape = f'style="--shape: {findings.shape(ranking.dataset)}"'
    return f'<div data-panel="{escape(ranking.dataset)} {escape(reader)}" {shape}{hidden}>{text}{lists}</div>'


def _title(title: str, ranking: Ranking) -> str:
    return title.replace("characters", "tiles") if ranking.grids else title


def _item(misreading: Misreading) -> str:
    if misreading.class_names:
        return _grid(misreading)
    label, edits = misreading.label, misreading.edits
    return (
        f'<li><img data-picture="{escape(misreading.sample_id)}" alt="{escape(label)}">'
        f"<span><code>{escape(label)}</code> read as {_marked(label, misreading.prediction)}</span>"
        f"<small>confidence {misreading.confidence:.2f}, {edits} edit{'s' * (edits != 1)}</small></li>"
    )


def _grid(misreading: Misreading) -> str:
    """A grid with its misread tiles, each by its row and column."""
    label, classes = misreading.label, misreading.class_names
    wrong = [
        f"<span>{index // ROWS + 1}·{index % ROWS + 1} <code>{escape(classes[actual])}</code> read as "
        f"<mark>{escape(classes[read])}</mark></span>"
        for index, (actual, read) in enumerate(zip(label, misreading.prediction, strict=True))
        if actual != read
    ]
    shown = ", ".join(classes[symbol] for symbol in label)
    return (
        f'<li><img data-picture="{escape(misreading.sample_id)}" alt="{escape(shown)}">{"".join(wrong)}'
        f"<small>row·column; confidence {misreading.confidence:.2f}, {misreading.edits} of {len(label)} wrong"
        "</small></li>"
    )


def _marked(label: str, prediction: str) -> str:
    """The prediction as HTML: wrong characters are underlined, and a missing one is an underscore."""
    if not prediction:
        return "<em>nothing</em>"
    parts = []
    for kind, _, _, start, end in SequenceMatcher(None, label, prediction, autojunk=False).get_opcodes():
        text = escape(prediction[start:end])
        if kind == "equal":
            parts.append(text)
        elif kind == "delete":
            parts.append("<mark>_</mark>")
        else:
            parts.append(f"<mark>{text}</mark>")
    return f"<code>{''.join(parts)}</code>"


SECTION = Section(100, "errors", "Errors", "Misread images", section)
