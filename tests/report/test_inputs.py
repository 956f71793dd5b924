"""Reading the tables that the page is made from."""

from pathlib import Path

import polars as pl
import pytest

from captchabench.errors import InputError
from captchabench.report.inputs import read_audit, read_cleaning
from captchabench.scoring.leaderboard import CONFUSION_SCHEMA
from captchabench.storage.tables import read_table
from captchabench.studies.robustness import SCHEMA as ROBUSTNESS


def test_symbols_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "confusion.csv"
    path.write_text('dataset,source,model,actual,predicted,count\nd,s,m,1,2,3\nd,s,m,"""",deleted,4\n')
    rows = read_table(path, CONFUSION_SCHEMA, "leaderboard").rows()
    assert rows == [("d", "s", "m", "1", "2", 3), ("d", "s", "m", '"', "deleted", 4)]


def test_numbers_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "robustness.csv"
    path.write_text(f"{','.join(ROBUSTNESS)}\nd,s,m,mean,,4,0.5,\n")
    assert read_table(path, ROBUSTNESS, "probes").rows() == [("d", "s", "m", "mean", None, 4, 0.5, None)]


def test_a_table_without_rows_is_one(tmp_path: Path) -> None:
    path = tmp_path / "robustness.csv"
    path.write_text(",".join(ROBUSTNESS) + "\n")
    assert read_table(path, ROBUSTNESS, "probes").equals(pl.DataFrame(schema=ROBUSTNESS))


@pytest.mark.parametrize("text", [None, "", "dataset,source\nd,s\n", f"{','.join(ROBUSTNESS)}\nd,s,m,x,1,four,1,1\n"])
def test_missing_or_damaged_tables_name_the_command(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "robustness.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(
        InputError, match=r"^.*robustness.csv: (cannot be read|does not have the columns).*; run `dvc repro probes`$"
    ):
        read_table(path, ROBUSTNESS, "probes")


def test_missing_or_damaged_files_of_the_data_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `dvc repro normalize@vtu`"):
        read_cleaning(tmp_path, ["vtu"])
    (tmp_path / "vtu.json").write_text('{"kept": 1}')
    with pytest.raises(InputError, match=r"vtu.json: cannot be read.*run `dvc repro normalize@vtu`"):
        read_cleaning(tmp_path, ["vtu"])
    path = tmp_path / "audit.json"
    path.write_text('{"datasets": {}, "duplicates": {}, "leakage": {}}')
    assert read_audit(path, []) == {"datasets": {}, "duplicates": {}, "leakage": {}}
    with pytest.raises(InputError, match=r"audit.json: cannot be read \('vtu'\); run `dvc repro audit`"):
        read_audit(path, ["vtu"])
