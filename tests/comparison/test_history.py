"""Leaderboards of several commits as one tidy table."""

import polars as pl

from captchabench.comparison.history import SCHEMA, Board, history
from captchabench.report.history import history_table, markdown_history

OLD = b"dataset,source,version,model,n,exact,exact_lo,exact_hi,threads\nvtu,standin,1,crnn,100,0.5,0.4,0.6,4\n"
NEW = (
    b"dataset,source,version,model,n,exact,exact_lo,exact_hi,cer,ctc_loss\n"
    b"vtu,kaggle,2,crnn,200,0.75,0.7,0.8,0.1,\nvtu,kaggle,2,hog_svc,200,1,0.9,1,0,1.5\n"
)


def test_every_metric_of_every_board_has_a_row() -> None:
    images = {("vtu", "crnn"): "ab"}
    result = history([Board("aaa", "2026-01-01", "first", OLD, images), Board("bbb", "2026-01-02", "second", NEW, {})])
    assert result.schema == SCHEMA
    first = result.filter(pl.col("commit") == "aaa")
    assert first.select("dataset", "source", "n", "images", "metric", "value", "low").rows() == [
        ("vtu", "standin", 100, "ab", "exact", 0.5, 0.4),
        ("vtu", "standin", 100, "ab", "n", 100.0, None),
    ]
    second = result.filter(pl.col("commit") == "bbb")
    assert set(second["version"]) == {2}
    # An empty cell has no row.
    assert second.filter(pl.col("model") == "crnn")["metric"].to_list() == ["cer", "exact", "n"]
    assert second.filter(pl.col("model") == "hog_svc")["metric"].to_list() == ["cer", "ctc_loss", "exact", "n"]


def test_a_file_that_is_not_a_leaderboard_is_left_out() -> None:
    others = [b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b'dataset,source\n"']
    result = history([*(Board("aaa", "", "", text, {}) for text in others), Board("bbb", "", "", OLD, {})])
    assert set(result["commit"]) == {"bbb"}
    assert history([]).schema == SCHEMA


def test_a_line_breaks_where_images_labels_or_version_change() -> None:
    def board(commit: str, n: int, digest: str, version: int = 1) -> Board:
        row = f"vtu,archive,{version},crnn,{n},0.5\n"
        table = f"dataset,source,version,model,n,exact\n{row}".encode()
        return Board(commit, "", "", table, {("vtu", "crnn"): digest} if digest else {})

    boards = [
        board("aaa", 575, ""),
        board("bbb", 575, "one"),  # the digest of the commit before is unknown
        board("ccc", 84, "two"),  # other images
        board("ddd", 84, "three"),  # other labels
        board("eee", 84, "three", version=2),
        board("fff", 84, "three", version=2),
    ]
    found = history(boards)
    exact = found.filter(pl.col("metric") == "exact")
    assert exact["segment"].to_list() == [0, 0, 1, 2, 3, 3]
    _, (row,) = history_table(found, "exact", 6)
    assert row[2:] == ["50.00%", "50.00%", "≠ 50.00%", "≠ 50.00%", "≠ 50.00%", "50.00%"]
    assert "≠: measured on other images" in markdown_history(found, "exact", 6)
    assert "≠" not in markdown_history(found, "exact", 1)
