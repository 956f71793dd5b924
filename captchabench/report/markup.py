"""Pieces of HTML that every section uses: tables, tags, menus. Text is escaped here; `html` fields are not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from captchabench.report.tables import source_note


@dataclass(frozen=True)
class Column:
    """One column of a table. words: its cells are text, which may wrap. first: the order that a first click
    on its head sorts by."""

    title: str
    words: bool = False
    first: str = "ascending"


@dataclass(frozen=True)
class TableCell:
    """A cell: HTML to show, and the number it is sorted by (None goes last; text sorts as it stands)."""

    html: str
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """A row: cells as HTML, the first of them its header; the dataset it belongs to, and whether it wins."""

    cells: Sequence[str | TableCell]
    dataset: str = ""
    best: bool = False


def tag(source: str) -> str:
    """A label that says where images came from; stand-ins stand out."""
    note = source_note(source)
    kind = "tag standin" if source_note("standin") in note else "tag"
    return f'<span class="{kind}">{escape(note)}</span>'


def only(dataset: str) -> str:
    """The attribute that hides an element while the page's filter shows another dataset than `dataset`."""
    return f' data-only="{escape(dataset)}"' if dataset else ""


def table(caption: str, columns: Sequence[Column], rows: Iterable[Row], *, sortable: bool = False) -> str:
    """A table with a caption (HTML), header cells with a scope, in a frame that scrolls on narrow screens."""
    head = "".join(_head(column, sortable) for column in columns)
    body = "".join(_row(row, columns) for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}><caption><span>{caption}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def numbers(caption: str, columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """A chart's numbers as a table, folded away: for copying, and for who cannot see the chart."""
    return f"<details><summary>The numbers</summary>{table(caption, columns, rows)}</details>"


def menus(targets: Iterable[str], choices: Mapping[str, Sequence[str]], chosen: Mapping[str, str]) -> str:
    """Menus, one a key of `choices`, that say what the elements with the ids `targets` show."""
    parts = []
    for name, options in choices.items():
        listed = "".join(
            f"<option{' selected' if option == chosen[name] else ''}>{escape(option)}</option>" for option in options
        )
        parts.append(f'<label>{escape(name)} <select name="{escape(name)}">{listed}</select></label>')
    return f'<div class="menus" data-for="{" ".join(targets)}">{"".join(parts)}</div>'


def _head(column: Column, sortable: bool) -> str:
    kind = ' class="words"' if column.words else ""
    title = escape(column.title)
    if not sortable:
        return f'<th scope="col"{kind}>{title}</th>'
    return (
        f'<th scope="col"{kind} aria-sort="none" data-first="{column.first}">'
        f'<button type="button">{title}</button></th>'
    )


def _row(row: Row, columns: Sequence[Column]) -> str:
    kind = ' class="best"' if row.best else ""
    cells = []
    for place, (cell, column) in enumerate(zip(row.cells, columns, strict=True)):
        content = cell if isinstance(cell, TableCell) else TableCell(cell)
        value = "" if content.value is None else f' data-value="{content.value:g}"'
        if place == 0:
            cells.append(f'<th scope="row"{value}>{content.html}</th>')
        else:
            cells.append(f"<td{' class=words' if column.words else ''}{value}>{content.html}</td>")
    return f"<tr{kind}{only(row.dataset)}>{''.join(cells)}</tr>"
