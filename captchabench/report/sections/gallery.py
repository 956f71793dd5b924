"""The images that models misread: the worst readings, and the ones they were surest of."""

from difflib import SequenceMatcher
from html import escape

from captchabench.datasets.base import ROWS
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import menus, tag
from captchabench.report.pictures import SUREST, WORST, Misreading
from captchabench.report.sections.base import Section
from captchabench.report.tables import Ranking

_TITLES = {WORST: "Most characters wrong", SUREST: "Surest, and wrong"}


def section(findings: Findings, _: Figures) -> str:
    """A panel a dataset and reader, of which the menus show one."""
    first = findings.members[0]
    names = sorted({row["reader"] for ranking in findings.members for row in ranking.rows}, key=findings.readers.index)
    chooser = menus(
        ["gallery"],
        {"dataset": [ranking.dataset for ranking in findings.members], "model": names},
        {"dataset": first.dataset, "model": first.rows[0]["reader"]},
    )
    opened = (first.dataset, first.rows[0]["reader"])
    panels = [
        _panel(findings, ranking, reader, shown=(ranking.dataset, reader) == opened)
        for ranking in findings.members
        for reader in names
    ]
    return f'{chooser}<div id="gallery">{"".join(panels)}</div>'


def _panel(findings: Findings, ranking: Ranking, reader: str, *, shown: bool) -> str:
    mine = [m for m in findings.misreadings if (m.dataset, m.reader) == (ranking.dataset, reader)]
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
        f'<ul class="pictures">{"".join(_item(m) for m in mine if m.kind == kind)}</ul>'
        for kind, title in _TITLES.items()
        if mine
    )
    hidden = "" if shown else " hidden"
    shape = f'style="--shape: {findings.shape(ranking.dataset)}"'
    return f'<div data-panel="{escape(ranking.dataset)} {escape(reader)}" {shape}{hidden}>{text}{lists}</div>'


def _title(title: str, ranking: Ranking) -> str:
    return title.replace("characters", "tiles") if ranking.grids else title


def _item(found: Misreading) -> str:
    if found.class_names:
        return _grid(found)
    return (
        f'<li><img data-picture="{escape(found.sample_id)}" alt="{escape(found.label)}">'
        f"<span><code>{escape(found.label)}</code> read as {_marked(found.label, found.prediction)}</span>"
        f"<small>confidence {found.confidence:.2f}, {found.edits} edit{'s' * (found.edits != 1)}</small></li>"
    )


def _grid(found: Misreading) -> str:
    """A grid with the tiles that were read wrong, each by its row and column."""
    classes = found.class_names
    wrong = [
        f"<span>{place // ROWS + 1}·{place % ROWS + 1} <code>{escape(classes[actual])}</code> read as "
        f"<mark>{escape(classes[read])}</mark></span>"
        for place, (actual, read) in enumerate(zip(found.label, found.prediction, strict=True))
        if actual != read
    ]
    shown = ", ".join(classes[symbol] for symbol in found.label)
    return (
        f'<li><img data-picture="{escape(found.sample_id)}" alt="{escape(shown)}">{"".join(wrong)}'
        f"<small>row·column; confidence {found.confidence:.2f}, {found.edits} of {len(found.label)} wrong</small></li>"
    )


def _marked(label: str, prediction: str) -> str:
    """The reading, with what does not agree with the label underlined; a missing character as a low line."""
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


SECTION = Section(100, "errors", "Errors", "Errors to look at", section)
