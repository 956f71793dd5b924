"""A comparison as a table on the terminal and as Markdown for a pull request."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from rich import box
from rich.console import Console
from rich.table import Table

from captchabench.comparison.compare import LEVEL, Change, Comparison, Row, Verdict
from captchabench.comparison.sides import Result
from captchabench.datasets import UNION
from captchabench.report.tables import percent, source_note

_STYLES = {"better": "green", "worse": "bold red", "not comparable": "yellow"}
# How many changed packages are listed by name.
_PACKAGES_LISTED = 8
_HEAD = ("model", "old", "new", "difference, 95 %", "p", "exact p", "CER old", "CER new", "+", "−", "verdict")


@dataclass(frozen=True)
class _Section:
    """The rows of one dataset, each with the texts of its cells in the order of _HEAD."""

    heading: str
    rows: Sequence[tuple[Row, list[str]]]


def print_comparison(comparison: Comparison, console: Console, flips: bool = False) -> None:
    """Print a table with one section per dataset and notes on its rows. flips: also list every flipped image."""
    notes = _Notes()
    console.print(title(comparison), markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in _HEAD:
        # On a narrow terminal only the verdict may wrap.
        table.add_column(name, justify="left" if name in ("model", "verdict") else "right", no_wrap=name != "verdict")
    for section in _sections(comparison, notes):
        table.add_row(section.heading, style="bold")
        for row, texts in section.rows:
            table.add_row(f"  {texts[0]}", *texts[1:], style=_STYLES.get(row.verdict))
        table.add_section()
    console.print(table)
    for line in (*notes.lines(), *repinned(comparison), legend(comparison), "", outcome(comparison)):
        console.print(line, markup=False)
    if flips:
        for line in _flip_lines(comparison):
            console.print(line, markup=False, soft_wrap=True)


def markdown_comparison(comparison: Comparison, flips: bool = False) -> str:
    """The comparison as Markdown, one table per dataset. Significant verdicts are bold."""
    notes = _Notes()
    head = f"| {' | '.join(_HEAD)} |"
    rule = "|---|" + "--:|" * (len(_HEAD) - 2) + "---|"
    lines = [f"# {title(comparison)}", "", outcome(comparison), ""]
    for section in _sections(comparison, notes):
        lines += [f"## {section.heading}", "", head, rule]
        for row, texts in section.rows:
            mark = "**" if row.verdict in ("better", "worse") else ""
            lines.append(f"| {' | '.join([*texts[:-1], f'{mark}{texts[-1]}{mark}'])} |")
        lines.append("")
    for note in (*notes.lines(), *repinned(comparison), legend(comparison)):
        lines += [note, ""]
    if flips:
        lines += ["```", *_flip_lines(comparison), "```", ""]
    return "\n".join(lines)


class _Notes:
    """Numbered notes. A text that several rows share has one number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The reference to a note, as " [1]"; "" if `text` is empty."""
        return f" [{self._numbers.setdefault(text, len(self._numbers) + 1)}]" if text else ""

    def lines(self) -> list[str]:
        """The notes, each with its number."""
        return [f"[{number}] {text}" for text, number in self._numbers.items()]


def title(comparison: Comparison) -> str:
    """The names of both sides, with their commits."""
    sides = ((comparison.old, comparison.old_commit), (comparison.new, comparison.new_commit))
    named = [f"{name} ({commit[:9]})" if commit and not commit.startswith(name) else name for name, commit in sides]
    return f"{named[1]} against {named[0]}"


def legend(comparison: Comparison) -> str:
    """The meaning of the columns, and the source of the images."""
    unpaired = any(row.test == "unpaired" for row in comparison.rows)
    return (
        "old, new: share of images read entirely right; difference: in percentage points, with its 95 % interval. "
        "p: McNemar's test, mid-p but at least 5/7 of the exact p"
        + (" (unpaired: the score test of two shares)" if unpaired else "")
        + f", after Holm's correction over {comparison.tested} rows; a change is significant if p is below {LEVEL}. "
        "exact p: the exact McNemar test, uncorrected. "
        f"+: images that only the new side read right; −: only the old side. {sources(comparison)}."
    )


def repinned(comparison: Comparison) -> list[str]:
    """One line if the two sides pin different versions of packages, which alone can change results; else none."""
    changed = [f"{name} {old or 'absent'} -> {new or 'absent'}" for name, (old, new) in comparison.packages.items()]
    if not changed:
        return []
    more = [f"{len(changed) - _PACKAGES_LISTED} more"] if len(changed) > _PACKAGES_LISTED else []
    listed = ", ".join([*changed[:_PACKAGES_LISTED], *more])
    return [f"requirements.lock differs: {listed}. Different versions alone can change the numbers."]


def sources(comparison: Comparison) -> str:
    """The sources of the images, with their descriptions."""
    named = {result.source for row in comparison.rows for result in (row.old, row.new) if result}
    return "; ".join(f"{source}: {source_note(source)}" for source in sorted(named))


def outcome(comparison: Comparison) -> str:
    """The number of rows with each verdict, as one line."""
    counts = Counter(row.verdict for row in comparison.rows)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if counts[verdict])


def _sections(comparison: Comparison, notes: _Notes) -> list[_Section]:
    """Rows by the dataset of their images. A model trained on union is listed under each dataset that it read."""
    groups: dict[str, list[Row]] = {}
    for row in comparison.rows:
        groups.setdefault(row.dataset.removeprefix(f"{UNION}/"), []).append(row)
    sections = []
    for dataset, rows in sorted(groups.items(), key=lambda group: (group[0] == UNION, group[0])):
        sources = sorted({result.source for row in rows for result in (row.old, row.new) if result})
        rows.sort(key=lambda row: (row.dataset != dataset, row.model))
        sections.append(_Section(f"{dataset} ({', '.join(sources)})", [(row, _texts(row, notes)) for row in rows]))
    return sections


def _texts(row: Row, notes: _Notes) -> list[str]:
    return [
        _reader(row),
        _share(row.old),
        _share(row.new),
        _difference(row.exact),
        _p(row.exact.p_holm) if row.exact else "",
        _p(row.mcnemar.exact_p) if row.mcnemar else "",
        _cer(row.old),
        _cer(row.new),
        "" if row.gained is None else str(len(row.gained)),
        "" if row.lost is None else str(len(row.lost)),
        row.verdict + notes.mark(row.reason),
    ]


def _reader(row: Row) -> str:
    """The model, and "(union)" if it was trained on union but reads one of its datasets."""
    return f"{row.model} ({UNION})" if row.dataset.startswith(f"{UNION}/") else row.model


def _share(result: Result | None) -> str:
    return "" if result is None else percent(result.exact_share)


def _cer(result: Result | None) -> str:
    return "" if result is None else f"{result.cer:.2%}"


def _difference(change: Change | None) -> str:
    if change is None:
        return ""
    value, low, high = map(points, (change.difference, change.low, change.high))
    return f"{value} ({low} to {high})"


def points(share: float) -> str:
    """A difference in percentage points, with its sign."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _flip_lines(comparison: Comparison) -> Iterator[str]:
    """All flipped images by row: sample_id, label, old reading, new reading."""
    for row in comparison.rows:
        for name, flips in (("newly right", row.gained), ("newly wrong", row.lost)):
            if flips:
                yield f"{row.dataset}, {row.model}: {len(flips)} {name}"
                for flip in flips:
                    yield f"  {flip.sample_id}  {flip.label}: {flip.old or '(nothing)'} -> {flip.new or '(nothing)'}"
