"""What is shown of grids of tiles, in names of classes."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from captchabench.report import summary
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markdown import markdown
from captchabench.report.pictures import WORST, Misreading
from captchabench.report.sections import gallery, tiles
from captchabench.report.tables import SOURCES
from captchabench.scoring.cells import Part, ScoredCell
from captchabench.scoring.counts import Counts
from captchabench.scoring.leaderboard import CLASSES as CLASSES_TABLE
from captchabench.scoring.leaderboard import Timing, classes, leaderboard

CLASSES = {"a": "bus", "b": "fire <hydrant>", "c": "tree"}


@pytest.fixture
def of_grids(findings: Findings) -> Findings:
    """The findings with two grids, of other tiles than drawn ones, one of them read with two tiles wrong."""
    counted = Counts.of(["abaaaaaac", "bbbbbbbbb"], ["baaaaaaac", "bbbbbbbbb"], np.full(2, 0.5), None, grids=True)
    cell = ScoredCell("grid", "hog_svc", 0, "archive", 1, 10, {"grid": Part("x", counted)}, CLASSES)
    timing = Timing(1.0, 2, 0.1, "cpu", 1)
    board = leaderboard([cell], {cell.cell: timing}, {("grid", "hog_svc"): 0.0})
    wrong = Misreading("grid", "hog_svc", WORST, "a1", "abaaaaaac", "baaaaaaac", 0.5, 2, CLASSES)
    return replace(
        findings,
        board=pl.concat([findings.board, board]),
        tables={**findings.tables, CLASSES_TABLE: classes([cell])},
        misreadings=[*findings.misreadings, wrong],
    )


def test_models_and_classes_have_their_rows(of_grids: Findings) -> None:
    html = tiles.section(of_grids, Figures())
    assert "88.9%" in html
    assert "fire &lt;hydrant&gt;" in html
    assert "50.0%" in html
    assert SOURCES["archive"] in html


def test_wrong_tiles_are_named_by_place(of_grids: Findings) -> None:
    html = gallery.section(of_grids, Figures())
    assert "1·1 <code>bus</code> read as <mark>fire &lt;hydrant&gt;</mark>" in html
    assert "1·2 <code>fire &lt;hydrant&gt;</code> read as <mark>bus</mark>" in html
    assert "2 of 9 wrong" in html
    size = of_grids.params.tiles
    assert f'style="--shape: {size.width} / {size.height}"' in html


def test_sources_are_kept_apart(of_grids: Findings) -> None:
    assert of_grids.source.startswith(f"grid: {SOURCES['archive']}; ")
    assert "Images of numbers6, union are stand-ins" in summary.head(of_grids)


def test_tables_speak_of_tiles(of_grids: Findings) -> None:
    text = markdown(of_grids.board, {"numbers6": "by hand"})
    assert "2 grids of 3×3 tiles held out" in text
    assert "| model | exact | 95 % | selected | tiles wrong | tiles right |" in text
    assert "| **hog_svc** | **50.0%** |" in text


def test_no_grids_are_a_sentence(findings: Findings) -> None:
    assert "No grids of tiles were read" in tiles.section(findings, Figures())
