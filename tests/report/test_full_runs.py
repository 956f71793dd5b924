"""The section of full runs: what results/ holds, compared with what others published."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from captchabench.errors import InputError
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.runs import PUBLISHED_SCHEMA, RUN_SCHEMA, read_published, read_runs
from captchabench.report.sections.full_runs import SECTION
from captchabench.scoring.leaderboard import TIMINGS
from captchabench.studies.images_needed import SCHEMA as CURVE
from captchabench.studies.noise import parameters_digest

RECORD: dict[str, Any] = {
    "images": "Four <small> images.",
    "date": "2026-11-26",
    "commit": "0123456789abcdef",
    "machine": {"processor": "a & b", "torch": "2.11"},
    "sources": {},
    "cells": [
        {"dataset": dataset, "model": model, "fold": 0, "train_seconds": seconds}
        for dataset, model, seconds in (("numbers6", "crnn", 90), ("numbers6", "hog_svc", 6), ("union", "crnn", 600))
    ],
    "parameters": {"models": {"hog_svc": {}, "crnn": {"decoding": {"length_prior": True, "shift_average": False}}}},
}


@pytest.fixture
def folder(tmp_path: Path, make_board: Callable[[], pl.DataFrame]) -> Path:
    """One run of numbers6 and union, and two published figures of numbers6, one of them without regard to case."""
    (tmp_path / "small.json").write_text(json.dumps(RECORD))
    make_board().drop(TIMINGS).write_csv(tmp_path / "small.csv")
    (tmp_path / "published.csv").write_text(
        ",".join(PUBLISHED_SCHEMA) + "\nnumbers6,Them,107,0.9813,false,,one split\n"
        "numbers6,Others,,0.5,true,0.0769,<all>\nnumbers6,Tiles,,,false,,of tiles alone\n"
        "vtu,Elsewhere,,0.1,false,,one\n"
    )
    return tmp_path


def written(findings: Findings, folder: Path) -> str:
    shown = replace(findings, runs=read_runs(folder), published=read_published(folder))
    return SECTION.write(shown, Figures())


def test_a_run_stands_beside_what_was_published(findings: Findings, folder: Path) -> None:
    html = written(findings, folder)
    assert "<b>small</b>: Four &lt;small&gt; images. 1 fold held out. a &amp; b, torch 2.11, 2026-11-26" in html
    assert "commit <code>012345678</code>" in html
    assert "make result RUN=small" in html
    assert "crnn (trained on union)" in html
    assert 'data-value="90">1.5<' in html
    assert 'data-value="600">10.0<' in html
    assert "1 fold, length prior<" in html
    assert "98.1%" in html
    # numbers6 has a ceiling of 90 %: crnn read 75 % and Them 98.1 % of all, with regard to case.
    assert "The fonts of the generator of numbers6 allow an exact match of 90.0%." in html
    assert ">83.3%<" in html
    assert ">109.0%<" in html
    assert html.count(">55.6%<") == 1
    assert "&lt;all&gt;" in html
    assert "of tiles alone" in html
    assert "Elsewhere" not in html


def test_the_curve_over_images_is_shown_where_its_parameters_are_those_of_the_run(
    findings: Findings, folder: Path
) -> None:
    digest = parameters_digest(RECORD["parameters"], "numbers6", "crnn")
    rows = [
        ("numbers6", "crnn", digest, images, 1, 4, exact, 0.3, 0.95, 0.1) for images, exact in ((100, 0.5), (856, 0.75))
    ]
    other = ("numbers6", "hog_svc", "of other parameters", 100, 1, 4, 0.25, 0.1, 0.6, 0.4)
    pl.DataFrame([*rows, other], CURVE, orient="row").write_csv(folder / "small.images.csv")
    figures = Figures()
    html = SECTION.write(replace(findings, runs=read_runs(folder), published=read_published(folder)), figures)
    assert "small, numbers6: held-out images read exactly against the number of training images" in html
    (chart,) = figures.specs.values()
    (shown,) = chart["datasets"].values()
    assert [(row["reader"], row["images"], row["exact"]) for row in shown] == [("crnn", 100, 0.5), ("crnn", 856, 0.75)]
    assert "<td>856</td>" in html
    (folder / "small.images.csv").write_text("dataset\n")
    with pytest.raises(InputError, match=r"small\.images\.csv: does not have the columns"):
        read_runs(folder)


def test_an_empty_folder_is_said_so(findings: Findings, tmp_path: Path) -> None:
    assert "There are none" in written(findings, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("small.json", "{", r"small\.json: is not the record of a run"),
        ("small.json", json.dumps({**RECORD, "more": 1}), r"small\.json: is not the record of a run .*more"),
        ("small.csv", ",".join([*RUN_SCHEMA][:-1]) + "\n", r"small\.csv: does not have the columns"),
        ("published.csv", "dataset\nvtu\n", r"published\.csv: does not have the columns"),
        ("published.csv", ",".join(PUBLISHED_SCHEMA) + "\nvtu,a,many,,,,\n", r"published\.csv: cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line(findings: Findings, folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=message):
        written(findings, folder)


def test_a_record_without_its_table_is_one_line(folder: Path) -> None:
    (folder / "small.csv").unlink()
    with pytest.raises(InputError, match=r"small\.csv: cannot be read .*restore it with Git"):
        read_runs(folder)


def test_what_the_project_publishes_is_readable() -> None:
    root = Path(__file__).parents[2] / "results"
    assert {run.name for run in read_runs(root)} <= {path.stem for path in root.glob("*.yaml")}
    assert read_published(root)["exact"].drop_nulls().is_between(0, 1).all()
