"""A comparison as a table on the terminal and as Markdown for a pull request."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from rich import box
from rich.console import Console
from rich.table import Table

from captchabench.comparison.rows import LEVEL, Change, Comparison, Networks, Row, Verdict
from captchabench.comparison.sides import Result
from captchabench.datasets import UNION
from captchabench.report.tables import percent, source_note

_STYLES = {"better": "green", "worse": "bold red", "mixed": "bold red", "gone": "yellow", "not comparable": "yellow"}
_MINUS = "−"
# How many changed packages are listed by name.
_PACKAGES_LISTED = 8
HEAD = (
    "model",
    "old",
    "new",
    "difference, 95 %",
    "p",
    "CER, %",
    "CER p",
    f"+/{_MINUS}",
    "models p",
    "finds",
    "CER finds",
    "verdict",
)
# The longest word of a verdict.
_WIDTHS = {"verdict": len("(provisional)")}
# What stands in place of the p of a row that could not have been significant.
_NO_P = "–"


@dataclass(frozen=True)
class _Section:
    """The rows of one dataset, each with the texts of its cells in the order of HEAD."""

    heading: str
    rows: Sequence[tuple[Row, list[str]]]


def print_comparison(comparison: Comparison, console: Console, flips: bool = False) -> None:
    """Print a table with one section per dataset and notes on its rows. flips: also list every flipped image."""
    notes = Notes(comparison)
    console.print(title(comparison), markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in HEAD:
        # On a narrow terminal only the verdict may wrap.
        # Two lines where there are two words, so that the table is narrow.
        heading = name if name == "CER, %" else name.replace(" ", "\n", 1)
        table.add_column(
            heading,
            justify="left" if name in ("model", "verdict") else "right",
            no_wrap=name != "verdict",
            min_width=_WIDTHS.get(name),
        )
    for section in _sections(comparison, notes):
        table.add_row(section.heading, style="bold")
        for row, texts in section.rows:
            table.add_row(f"  {texts[0]}", *texts[1:], style=_STYLES.get(row.verdict))
        table.add_section()
    console.print(table)
    told = (*caveats(comparison), *notes.lines(), *repinned(comparison), legend(comparison))
    for line in (*told, "", outcome(comparison)):
        console.print(line, markup=False)
    if flips:
        for line in _flip_lines(comparison):
            console.print(line, markup=False, soft_wrap=True)


def markdown_comparison(comparison: Comparison, flips: bool = False) -> str:
    """The comparison as Markdown, one table per dataset. Significant verdicts are bold."""
    notes = Notes(comparison)
    head = f"| {' | '.join(HEAD)} |"
    rule = "|---|" + "--:|" * (len(HEAD) - 2) + "---|"
    lines = [f"# {title(comparison)}", "", outcome(comparison), ""]
    for section in _sections(comparison, notes):
        lines += [f"## {section.heading}", "", head, rule]
        for row, texts in section.rows:
            mark = "**" if row.verdict in ("better", "worse", "mixed") else ""
            lines.append(f"| {' | '.join([*texts[:-1], f'{mark}{texts[-1]}{mark}'])} |")
        lines.append("")
    for note in (*caveats(comparison), *notes.lines(), *repinned(comparison), legend(comparison)):
        lines += [note, ""]
    if flips:
        lines += ["```", *_flip_lines(comparison), "```", ""]
    return "\n".join(lines)


class Notes:
    """The numbered notes of a comparison. A text that several rows share has one number."""

    def __init__(self, comparison: Comparison) -> None:
        texts = dict.fromkeys(text for row in comparison.rows for text in _notes_of(row))
        self._numbers = {text: number for number, text in enumerate(texts, start=1)}

    def mark(self, row: Row) -> str:
        """The references to a row's notes, as " [1, 2]"; "" if it has none."""
        numbers = [str(self._numbers[text]) for text in _notes_of(row)]
        return f" [{', '.join(numbers)}]" if numbers else ""

    def lines(self) -> list[str]:
        """The notes, each with its number."""
        return [f"[{number}] {text}" for text, number in self._numbers.items()]


def _notes_of(row: Row) -> list[str]:
    return [text for text in (row.reason, *row.notes) if text]


def title(comparison: Comparison) -> str:
    """The names of both sides, with their commits."""
    sides = ((comparison.old, comparison.old_commit), (comparison.new, comparison.new_commit))
    named = [f"{name} ({commit[:9]})" if commit and not commit.startswith(name) else name for name, commit in sides]
    return f"{named[1]} against {named[0]}"


def legend(comparison: Comparison) -> str:
    """The meaning of the columns, and the source of the images."""
    unpaired = any(row.test == "unpaired" for row in comparison.rows)
    return (
        "old, new: share of images read entirely right. difference: in percentage points. p, CER p: of the change, "
        "against chance on images and in retraining, after Holm's correction over the rows that could be significant "
        f"({comparison.tested} of {len(comparison.rows)} by exact match; {_NO_P}: too few images differ); CER p is "
        "doubled, as a second chance for one verdict. A change is "
        f"significant if p is below {LEVEL}; its interval is corrected alike, and excludes 0 exactly then. models p: "
        "of these two trained models alone, McNemar's test, corrected alike"
        + (" (not of unpaired rows, whose p is from the score test of two shares)" if unpaired else "")
        + f". +/{_MINUS}: images that only the new side, only the old side read right. finds, CER finds: the "
        "smallest difference of exact match and of CER, in points, that this comparison would have found four times in "
        f"five. {sources(comparison)}."
    )


def caveats(comparison: Comparison) -> list[str]:
    """What could not be judged, as one line for each; none if all was."""
    return [f"Not judged: {clause}." for clause in comparison.unjudged()]


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
    order = get_args(Verdict)
    counts = Counter(row.words for row in sorted(comparison.rows, key=lambda row: order.index(row.verdict)))
    return ", ".join(f"{count} {words}" for words, count in counts.items())


def _sections(comparison: Comparison, notes: Notes) -> list[_Section]:
    """Rows by the dataset of their images. A model trained on union is listed under each dataset that it read."""
    groups: dict[str, list[Row]] = {}
    for row in comparison.rows:
        groups.setdefault(row.dataset.removeprefix(f"{UNION}/"), []).append(row)
    sections = []
    for dataset, rows in sorted(groups.items(), key=lambda group: (group[0] == UNION, group[0])):
        sources = sorted({result.source for row in rows for result in (row.old, row.new) if result})
        rows.sort(key=lambda row: (row.dataset != dataset, row.model))
        sections.append(_Section(f"{dataset} ({', '.join(sources)})", [(row, row_texts(row, notes)) for row in rows]))
    return sections


def row_texts(row: Row, notes: Notes) -> list[str]:
    """The cells of a row, in the order of HEAD: the same in every output."""
    return [
        _reader(row),
        _share(row.old),
        _share(row.new),
        _difference(row.exact),
        _p(row.exact),
        _cer(row.old, row.new),
        _p(row.cer),
        "" if row.gained is None or row.lost is None else f"{len(row.gained)}/{len(row.lost)}",
        _p(row.networks),
        "" if row.exact is None else f"{100 * row.exact.detectable:.1f}",
        "" if row.cer is None else f"{100 * row.cer.detectable:.2f}",
        row.words + notes.mark(row),
    ]


def _reader(row: Row) -> str:
    """The model, and "(union)" if it was trained on union but reads one of its datasets."""
    return f"{row.model} ({UNION})" if row.dataset.startswith(f"{UNION}/") else row.model


def _share(result: Result | None) -> str:
    return "" if result is None else percent(result.exact_share)


def _cer(old: Result | None, new: Result | None) -> str:
    return "→".join("–" if result is None else f"{100 * result.cer:.2f}" for result in (old, new))


def _difference(change: Change | None) -> str:
    if change is None:
        return ""
    value, low, high = map(points, (change.difference, change.low, change.high))
    return f"{value} ({low} to {high})"


def points(share: float) -> str:
    """A difference in percentage points, with its sign."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", _MINUS)


def _p(tested: Change | Networks | None) -> str:
    if tested is None:
        return ""
    p = tested.p_holm
    return _NO_P if p is None else "<0.001" if p < 1e-3 else f"{p:.3f}"


def _flip_lines(comparison: Comparison) -> Iterator[str]:
    """All flipped images by row: sample_id, label, old reading, new reading."""
    for row in comparison.rows:
        for name, flips in (("newly right", row.gained), ("newly wrong", row.lost)):
            if flips:
                yield f"{row.dataset}, {row.model}: {len(flips)} {name}"
                for flip in flips:
                    yield f"  {flip.sample_id}  {flip.label}: {flip.old or '(nothing)'} -> {flip.new or '(nothing)'}"
