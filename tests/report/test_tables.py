"""Ranking, and the tables for a terminal and a repository browser."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from captchabench.errors import InputError
from captchabench.report.markdown import markdown
from captchabench.report.tables import percent, rankings
from captchabench.report.terminal import print_leaderboard
from captchabench.scoring.leaderboard import write_leaderboard

BASES = {"numbers6": "by hand"}
Board = Callable[[], pl.DataFrame]


def test_best_comes_first_and_the_union_model_stands_beside_its_rivals(make_board: Board) -> None:
    numbers6, union = rankings(make_board())
    assert [row["reader"] for row in numbers6.rows] == ["crnn", "crnn (trained on union)", "hog_svc"]
    assert numbers6.best == ["crnn"]
    assert (numbers6.version, numbers6.n) == (3, 4)
    assert (union.dataset, [row["reader"] for row in union.rows]) == ("union", ["crnn"])


def test_a_percentage_does_not_round_up_to_all() -> None:
    assert [percent(s) for s in (1.0, 0.9996, 0.123, 0.0)] == ["100.0%", "99.960%", "12.3%", "0.0%"]


def test_markdown_says_what_is_a_stand_in_and_holds_no_times(make_board: Board) -> None:
    text = markdown(make_board(), BASES)
    assert "## numbers6 · drawn stand-ins, not the Kaggle images" in text
    assert "| **crnn** | **75.0%** | 30.1–95.4 | 83.3% |" in text
    assert "| crnn (trained on union) | 50.0% |" in text
    assert "77.3" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    # numbers6 has one column more than union, which has no ceiling.
    assert [line.count("|") for line in lines] == [14] * 5 + [13] * 3
    assert "Version 3, 4 images held out, 1 fold. Ceiling of exact match: 90.0% (by hand)." in text


def test_a_ceiling_of_100_percent_is_said_and_needs_no_column(make_board: Board) -> None:
    text = markdown(make_board().with_columns(ceiling=pl.lit(1.0), of_ceiling="exact"), BASES | {"union": "by sum"})
    assert "Ceiling of exact match: 100.0% (by sum)." in text
    assert "of ceiling |" not in text


def test_near_duplicates_are_said(make_board: Board) -> None:
    text = markdown(make_board().with_columns(groups=pl.lit(3)), BASES)
    assert "4 images (3 without near-duplicates) held out" in text
    assert "near-duplicates)" not in markdown(make_board().with_columns(groups=pl.lit(4)), BASES)


def test_markdown_marks_every_winner_of_a_tie(make_board: Board) -> None:
    board = make_board().with_columns(exact=pl.lit(0.5))
    assert all(f"| **{r['reader']}** |" in markdown(board, BASES) for r in rankings(board)[0].rows)


def test_the_terminal_table_fits_100_columns(make_board: Board, tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    longest = make_board().with_columns(pl.col("model").str.replace("crnn", "cnn_transformer"))
    write_leaderboard(path, longest)
    written = StringIO()
    print_leaderboard(path, Console(file=written, width=100))
    text = written.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "numbers6 · drawn stand-ins, not the Kaggle images · 4 images, 1 fold" in text
    assert text.count("of 90.0%: exact as a share of the highest exact match possible") == 1
    row = next(line for line in text.splitlines() if line.strip().startswith("cnn_transformer (union)"))
    assert row.split()[2:] == ["50.0%", "15.0–85.0", "50.0%", "37.5%", "0.000", "55.6%", "77.3", "2,000"]
    # union has no ceiling: its table shows the size.
    assert text.splitlines()[-2].split()[-3:] == ["1.3M", "77.3", "2,000"]


def test_a_missing_leaderboard_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `dvc repro leaderboard`"):
        print_leaderboard(tmp_path / "leaderboard.csv")
