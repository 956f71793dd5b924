"""HTML that all sections use: tables, tags, menus. Arguments that are HTML already are not escaped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from captchabench.report.tables import source_note


@dataclass(frozen=True)
class Column:
    """One column of a table. words: its cells are text, which may wrap. first: the order after the first click.

    optional: it is left out if all its cells are empty or a dash.
    """

    title: str
    words: bool = False
    first: str = "ascending"
    optional: bool = False


@dataclass(frozen=True)
class TableCell:
    """A cell: its HTML, and the number that it is sorted by. A cell without a number is sorted by its text."""

    html: str
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """A row: its cells as HTML, of which the first is its header. best: it is highlighted."""

    cells: Sequence[str | TableCell]
    dataset: str = ""
    best: bool = False


def tag(source: str) -> str:
    """A label with the source of the images. That of stand-ins is highlighted."""
    note = source_note(source)
    kind = "tag standin" if source_note("standin") in note else "tag"
    return f'<span class="{kind}">{escape(note)}</span>'


def only(dataset: str) -> str:
    """The attribute that hides an element while the page is filtered by a dataset other than `dataset`."""
    return f' data-only="{escape(dataset)}"' if dataset else ""


def table(caption: str, columns: Sequence[Column], rows: Iterable[Row], *, sortable: bool = False) -> str:
    """A table in a frame that scrolls on narrow screens. caption: HTML."""
    columns, rows = _without_empty(columns, list(rows))
    head = "".join(_head(column, sortable) for column in columns)
    body = "".join(_row(row, columns) for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}><caption><span>{caption}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _without_empty(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[Row]]:
    """The columns and rows without optional columns in which no row has a value."""
    values = [[cell.html if isinstance(cell, TableCell) else cell for cell in row.cells] for row in rows]
    kept = [i for i, column in enumerate(columns) if not column.optional or any(v[i] not in ("", "–") for v in values)]
    return [columns[i] for i in kept], [replace(row, cells=[row.cells[i] for i in kept]) for row in rows]


def numbers(caption: str, columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """The numbers of a chart as a folded table, for copying and for readers who cannot see the chart."""
    return f"<details><summary>The numbers</summary>{table(caption, columns, rows)}</details>"


def menus(targets: Iterable[str], choices: Mapping[str, Sequence[str]], chosen: Mapping[str, str]) -> str:
    """Menus that control the elements with the ids `targets`. choices: name of each menu -> its options.

    A menu with one option is hidden.
    """
    parts = []
    for name, options in choices.items():
        listed = "".join(
            f"<option{' selected' if option == chosen[name] else ''}>{escape(option)}</option>" for option in options
        )
        hidden = " hidden" if len(options) == 1 else ""
        parts.append(f'<label{hidden}>{escape(name)} <select name="{escape(name)}">{listed}</select></label>')
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
    for index, (cell, column) in enumerate(zip(row.cells, columns, strict=True)):
        content = cell if isinstance(cell, TableCell) else TableCell(cell)
        value = "" if content.value is None else f' data-value="{content.value:g}"'
        if index == 0:
            cells.append(f'<th scope="row"{value}>{content.html}</th>')
        else:
            cells.append(f"<td{' class=words' if column.words else ''}{value}>{content.html}</td>")
    return f"<tr{kind}{only(row.dataset)}>{''.join(cells)}</tr>"
