"""A small leaderboard made of counted predictions, and all else that a page shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from captchabench.config import PARAMS, load_params
from captchabench.report.findings import Findings
from captchabench.report.inputs import Cleaning
from captchabench.report.pictures import SUREST, WORST, Misreading
from captchabench.report.runs import PUBLISHED_SCHEMA
from captchabench.report.sections.base import sections
from captchabench.scoring.cells import Part, ScoredCell
from captchabench.scoring.counts import Counts
from captchabench.scoring.curves import CURVES
from captchabench.scoring.leaderboard import CLASSES, CONFUSIONS, Timing, classes, confusions, leaderboard
from captchabench.studies.ambiguity import AMBIGUITY
from captchabench.studies.carry import CARRY
from captchabench.studies.confidence import CALIBRATION, RISK
from captchabench.studies.cost import COST, SPEED
from captchabench.studies.label_errors import SUSPECTS
from captchabench.studies.robustness import ROBUSTNESS
from captchabench.studies.transfer import TRANSFER_TABLE

ROOT = Path(__file__).parents[2]
# A grey pixel, which any browser shows.
PIXEL = "data:image/gif;base64,R0lGODdhAQABAIAAAICAgAAAACwAAAAAAQABAAACAkQBADs="


def counted(*predictions: str) -> Counts:
    labels = ["1<", "23", "45", "67"]
    return Counts.of(labels, list(predictions), np.full(4, 0.5), None)


@pytest.fixture(scope="session")
def cells() -> list[ScoredCell]:
    """numbers6 by two models, and union by one of them, on the same four images."""
    good = Part("same", counted("1<", "23", "45", "68"))
    bad = Part("same", counted("1<", "", "4", "7677"))
    fair = Part("same", counted("1<", "23", "4", "8"))
    return [
        ScoredCell("numbers6", "hog_svc", 0, "standin", 3, 45_000, {"numbers6": bad}),
        ScoredCell("numbers6", "crnn", 0, "standin", 3, 1_200_000, {"numbers6": good}),
        ScoredCell("union", "crnn", 0, "standin", 4, 1_300_000, {"union": fair, "union/numbers6": fair}),
    ]


@pytest.fixture(scope="session")
def make_board(cells: list[ScoredCell]) -> Callable[[], pl.DataFrame]:
    """A function that gives the leaderboard of `cells`."""

    def make() -> pl.DataFrame:
        timing = Timing(77.3, 4, 0.002, "cpu", 4)
        coverage = {(name, cell.model): 0.5 for cell in cells for name in cell.parts}
        return leaderboard(cells, {cell.cell: timing for cell in cells}, coverage, {"numbers6": 0.9})

    return make


def table(schema: pl.Schema, *rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture(scope="session")
def findings(make_board: Callable[[], pl.DataFrame], cells: list[ScoredCell]) -> Findings:
    """All of a page about numbers6 and union. A prediction tries to break out of it."""
    own, whole, member = (("numbers6", "standin"), ("union", "standin"), ("union/numbers6", "standin"))
    rows = [(*own, "crnn"), (*own, "hog_svc"), (*whole, "crnn"), (*member, "crnn")]
    steps = [("clean", 0, 4, 0.75, 0.0), ("noise", 1, 4, 0.5, 1 / 3), ("noise", 2, 4, 0.25, 2 / 3)]
    mean = ("mean", None, 4, 0.375, 0.5)
    unread = [("clean", 0, 4, 0.0, None), ("noise", 1, 4, 0.0, None), ("mean", None, 4, 0.0, None)]
    trained = [("numbers6", "crnn"), ("numbers6", "hog_svc"), ("union", "crnn")]
    sizes = [(*who, 45_000, None if who[1] == "hog_svc" else 1e6, 9_000) for who in trained]
    speeds = [(*who, 77.3, 2000.0, 3.5, "cpu", 4, None) for who in trained]
    return Findings(
        board=make_board(),
        tables={
            **{each: table(each.schema) for section in sections() for each in section.tables},
            CURVES: table(
                CURVES.schema,
                (*own, "crnn", 0, 1, 1.0, 0.1, 2.0, 2.0, 0.5),
                (*whole, "crnn", 0, 1, 1.0, None, None, None, 0.1),
            ),
            CONFUSIONS: confusions(cells),
            CLASSES: classes(cells),
            CALIBRATION: table(CALIBRATION.schema, *((*who, 0.4, 0.6, 40, 0.5, 0.5) for who in rows)),
            RISK: table(
                RISK.schema, *((*who, 0.5, 1.0, 0.7) for who in rows), *((*who, 1.0, 0.75, 0.5) for who in rows)
            ),
            TRANSFER_TABLE: table(
                TRANSFER_TABLE.schema,
                ("numbers6", "crnn", "numbers6", "standin", 4, 0.75, 0.3, 0.95, 0.75, 0.1),
                ("union", "crnn", "numbers6", "standin", 4, 0.5, 0.15, 0.85, 0.5, 0.4),
            ),
            CARRY: table(
                CARRY.schema,
                ("numbers6", "archive", "numbers6", "crnn", 0, 8, 0.625, 0.31, 0.86, 0.625, 0.2),
                ("numbers6", "archive", "union", "crnn", 0, 8, 0.125, 0.02, 0.47, 0.125, 0.6),
            ),
            ROBUSTNESS: table(
                ROBUSTNESS.schema,
                *((*who, *step) for who in (rows[0], rows[2], rows[3]) for step in [*steps, mean]),
                *((*rows[1], *step) for step in unread),
            ),
            COST: table(COST.schema, *sizes),
            SPEED: table(SPEED.schema, *speeds),
            AMBIGUITY: table(AMBIGUITY.schema, ("numbers6", "standin", "17 08", 0.9, 0.9, "glyphs equal as drawn")),
            SUSPECTS: table(SUSPECTS.schema, (*own, "a1", "x/<1>.png", "1<", "7>", 1, 0.9, 2, 3, "crnn union/crnn")),
        },
        cleaning=[Cleaning("numbers6", "standin", 10, 8, {"undecodable": 2, "wrong length": 0}, {"1": 5, "2": 3})],
        audit={
            "datasets": {
                "numbers6": {
                    "folds": {"0": 4, "1": 4},
                    "distinct_labels": 8,
                    "balance": {
                        "evenness": 0.95,
                        "commonest": {"symbol": "1", "count": 5},
                        "rarest": {"symbol": "2", "count": 3},
                    },
                    "labels_alike_but_for_case": {"labels": 0, "examples": []},
                    "symbols_in_one_fold_only": {},
                }
            },
            "duplicates": {
                "exact_groups": 0,
                "exact_images": 0,
                "near_groups": 0,
                "near_images": 0,
                "exact_groups_with_two_labels": 0,
                "groups_across_datasets": 0,
                "two_labels_examples": [],
            },
            "leakage": {"near_groups_across_folds": 0},
        },
        misreadings=[
            Misreading("numbers6", "crnn", WORST, "a1", "67", "</script><img src=x onerror=alert(1)>", 0.5, 30),
            Misreading("numbers6", "crnn", SUREST, "a2", "67", "68", 0.99, 1),
            Misreading("numbers6", "hog_svc", WORST, "a2", "23", "", 0.25, 2),
        ],
        pictures={"a1": PIXEL, "a2": PIXEL},
        params=load_params(ROOT / PARAMS),
        params_text="data: {source: standin}  # <&>",
        runs=[],
        published=pl.DataFrame(schema=PUBLISHED_SCHEMA),
    )
