"""How a comparison is worded and laid out."""

import io
import re
from dataclasses import replace
from html import unescape

import pytest
from rich.console import Console

from captchabench.cells.cell import Cell
from captchabench.comparison.paired import mcnemar
from captchabench.comparison.retraining import Basis
from captchabench.comparison.rows import Change, Comparison, Flip, Networks, Row, Verdict
from captchabench.comparison.sides import Result
from captchabench.report.change import change_page
from captchabench.report.comparison import HEAD, Notes, markdown_comparison, print_comparison, row_texts


def scored(exact: int, edits: int) -> Result:
    return Result((Cell("vtu", "crnn", 0),), "standin", 1, ("ab",), 1000, exact, edits, 6000, {})


def row(
    model: str,
    verdict: Verdict,
    reason: str = "",
    networks: Networks | None = None,
    p: float | None = 0.5,
    basis: Basis = "study",
    notes: tuple[str, ...] = (),
) -> Row:
    change = Change(-0.0004, -0.012, 0.011, p or 1.0, p, 0.021)
    cer = Change(0.0002, -0.003, 0.004, 0.4, 0.8, 0.0062)
    lost = (Flip("vtu", "00ff", "AbC", "AbC", ""),)
    return Row(
        "vtu", model, verdict, reason, scored(950, 60), scored(949, 61), change, cer, networks, (), lost, basis, notes
    )


ROWS = (
    row("crnn", "worse", networks=Networks(mcnemar(3, 40), -0.01, 0.01, 1e-7), p=1e-7, notes=("threads 1 -> 4",)),
    row("hog_svc", "no significant change", "unpaired test: they are gone", p=None, basis="assumed"),
    row("effnet_b1", "no significant change", "unpaired test: they are gone"),
    Row("union/vtu", "crnn", "new", "", None, scored(1000, 0)),
    Row("union", "crnn", "not comparable", "source differs (standin, kaggle)", scored(1, 9), scored(0, 9)),
)
COUNTS = "1 worse, 1 no significant change (provisional), 1 no significant change, 1 new, 1 not comparable"
FOUND = Comparison("main", "a" * 40, "workspace", None, ROWS)


def printed(width: int, flips: bool = False) -> list[str]:
    stream = io.StringIO()
    print_comparison(FOUND, Console(file=stream, width=width, color_system=None), flips)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_title_says_what_is_compared_with_what() -> None:
    assert printed(160)[0] == "workspace against main (aaaaaaaaa)"


def test_a_reason_stands_once_and_rows_send_to_it() -> None:
    lines = printed(160)
    assert sum("they are gone" in line for line in lines) == 1
    assert "[1] threads 1 -> 4" in lines
    assert "[2] unpaired test: they are gone" in lines
    assert "[3] source differs (standin, kaggle)" in lines
    assert [line.split()[0] for line in lines if line.endswith("[2]")] == ["effnet_b1", "hog_svc"]


def test_a_union_stands_with_the_dataset_it_reads_and_the_merged_one_last() -> None:
    heads = [line.strip() for line in printed(160)[4:] if line.startswith("   ") or "(standin)" in line]
    order = [line.split("  ")[0] for line in heads if line]
    assert order == ["vtu (standin)", "crnn", "effnet_b1", "hog_svc", "crnn (union)", "union (standin)", "crnn"]


def test_small_numbers_are_worded_with_care() -> None:
    (line,) = [line for line in printed(160) if line.strip().startswith("crnn") and "worse" in line]
    assert " 0.0 (−1.2 to +1.1)" in line
    assert line.split()[7:] == ["<0.001", "1.00→1.02", "0.800", "0/1", "<0.001", "2.1", "0.62", "worse", "[1]"]
    (new,) = [line for line in printed(160) if "crnn (union)" in line]
    assert new.split() == ["crnn", "(union)", "100.0%", "–→0.00", "new"]


@pytest.mark.parametrize("width", [110, 156])
def test_no_number_is_cut_off_on_a_narrow_terminal(width: int) -> None:
    lines = printed(width)
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_the_last_line_counts_verdicts() -> None:
    assert printed(160)[-1] == COUNTS


def test_an_empty_reading_is_named() -> None:
    assert "  00ff  AbC: AbC -> (nothing)" in printed(140, flips=True)
    assert not any("00ff" in line for line in printed(160))


def test_markdown_has_the_same_rows() -> None:
    text = markdown_comparison(FOUND)
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| model")]
    assert len(rows) == len(ROWS)
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {13}
    assert "| **worse [1]** |" in rows[0]
    assert "(2 of 5 by exact match; –: too few images differ)" in text
    assert "drawn stand-ins, not the Kaggle images" in text


def test_terminal_markdown_and_page_have_the_same_words_for_the_same_rows() -> None:
    """Cell by cell; the page is read as a browser shows it."""
    notes = Notes(FOUND)
    expected = {tuple(row_texts(row, notes)) for row in ROWS}
    markdown = [line for line in markdown_comparison(FOUND).splitlines() if line.startswith("| ")]
    in_markdown = {tuple(cell.strip().strip("*") for cell in line.strip("|").split("|")) for line in markdown}
    assert in_markdown - expected == {HEAD}
    assert expected <= in_markdown
    shown = [re.split(r"\s{2,}", line.strip()) for line in printed(240)]
    assert {tuple(text for text in row if text) for row in expected} <= set(map(tuple, shown))
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", change_page(FOUND))
    on_page = [re.sub("<[^>]+>|[▲▼] ", "", unescape(cell)) for cell in cells]
    for row in ROWS:
        # The page has the dataset in a column of its own, and the model without the mark of a union.
        wanted = [row.model, row.dataset, *row_texts(row, notes)[1:]]
        assert any(on_page[i : i + len(wanted)] == wanted for i in range(len(on_page))), wanted
    assert [row["words"] for row in FOUND.as_json()["rows"]] == [row.words for row in ROWS]


def test_a_page_has_what_changed_in_sight_and_the_rest_folded_away() -> None:
    html = change_page(replace(FOUND, packages={"torch": ("2.10", "2.11")}))
    seen, folded = html.split("<details>")
    assert "<h1>workspace against main (aaaaaaaaa)</h1>" in seen
    assert COUNTS in seen
    assert "▼ worse" in seen
    assert "−1.2 to +1.1" in seen
    assert "&lt;0.001" in seen
    assert "▼" not in folded
    assert folded.count("[2]</span>") == 2
    assert "[2] unpaired test: they are gone" in folded
    assert "requirements.lock differs: torch 2.10 -&gt; 2.11." in folded
    # It asks nobody for anything, and runs nothing.
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_every_output_has_the_same_words_for_the_same_row() -> None:
    notes = Notes(FOUND)
    for compared in FOUND.rows:
        words = row_texts(compared, notes)[-1]
        assert words in markdown_comparison(FOUND)
        assert words in change_page(FOUND)
        assert any(words in line for line in printed(160))
        assert compared.as_json()["words"] == compared.words == words.partition(" [")[0]
