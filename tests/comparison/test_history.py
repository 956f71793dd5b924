"""Leaderboards of several commits as one tidy table."""

import polars as pl

from captchabench.comparison.history import SCHEMA, history

OLD = b"dataset,source,version,model,n,exact,exact_lo,exact_hi,threads\nvtu,standin,1,crnn,100,0.5,0.4,0.6,4\n"
NEW = (
    b"dataset,source,version,model,n,exact,exact_lo,exact_hi,cer,ctc_loss\n"
    b"vtu,kaggle,2,crnn,200,0.75,0.7,0.8,0.1,\nvtu,kaggle,2,hog_svc,200,1,0.9,1,0,1.5\n"
)


def test_every_metric_of_every_board_has_a_row() -> None:
    result = history([("aaa", "2026-01-01", "first", OLD), ("bbb", "2026-01-02", "second", NEW)])
    assert result.schema == SCHEMA
    assert result.filter(pl.col("commit") == "aaa").select("dataset", "source", "metric", "value", "low").rows() == [
        ("vtu", "standin", "exact", 0.5, 0.4),
        ("vtu", "standin", "n", 100.0, None),
    ]
    second = result.filter(pl.col("commit") == "bbb")
    assert set(second["version"]) == {2}
    # An empty cell has no row.
    assert second.filter(pl.col("model") == "crnn")["metric"].to_list() == ["cer", "exact", "n"]
    assert second.filter(pl.col("model") == "hog_svc")["metric"].to_list() == ["cer", "ctc_loss", "exact", "n"]


def test_a_file_that_is_not_a_leaderboard_is_left_out() -> None:
    others = [b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b'dataset,source\n"']
    result = history([("aaa", "", "", text) for text in others] + [("bbb", "", "", OLD)])
    assert set(result["commit"]) == {"bbb"}
    assert history([]).schema == SCHEMA
