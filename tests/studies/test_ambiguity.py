"""Symbols drawn alike, and the ceiling of exact match that follows."""

from dataclasses import replace

import numpy as np
import pytest

from captchabench.datasets import DATASETS
from captchabench.studies.ambiguity import alike, ambiguity

PARSASAM = DATASETS["parsasam"]
# Draws l and I alike to the pixel, and nothing else of these.
MANROPE = next(face for face in PARSASAM.faces if face.package == "font_manrope")
CAPITALS = next(face for face in PARSASAM.faces if face.capitals)
SERIF = next(face for face in PARSASAM.faces if face.package == "font_source_serif_pro")


def test_equal_glyphs_are_grouped_and_similar_ones_are_not() -> None:
    assert alike("IlEFceOCnu1", MANROPE) == ["Il", "E", "F", "c", "e", "O", "C", "n", "u", "1"]
    assert alike("cCsSvVwWxXzZpP", MANROPE) == list("cCsSvVwWxXzZpP")


def test_a_font_of_capitals_draws_lower_case_alike() -> None:
    assert alike("AaSs12", CAPITALS) == ["Aa", "Ss", "1", "2"]


def test_the_ceiling_by_hand() -> None:
    # One of the two fonts draws I and l alike: a reader gets 3 of 4 symbols right. Case folding does not merge the two.
    dataset = replace(PARSASAM, symbols="IlXY", faces=(MANROPE, SERIF), min_length=2, max_length=3)
    row = ambiguity([dataset], "standin").row(0, named=True)
    expected = np.mean([1, np.mean([0.75**2, 0.75**3])])
    assert row == {
        "dataset": "parsasam",
        "source": "standin",
        "pairs": "Il",
        "ceiling_exact": pytest.approx(expected),
        "ceiling_exact_folded": pytest.approx(expected),
    }


def test_case_folded_a_pair_of_cases_costs_nothing() -> None:
    dataset = replace(PARSASAM, symbols="Aa1", faces=(CAPITALS,), min_length=1, max_length=1)
    row = ambiguity([dataset], "standin").row(0, named=True)
    assert (row["ceiling_exact"], row["ceiling_exact_folded"]) == (pytest.approx(2 / 3), 1.0)


def test_every_dataset_of_texts_declares_its_fonts() -> None:
    texts = [name for name in DATASETS.names() if DATASETS[name].task == "text"]
    table = ambiguity([DATASETS[name] for name in texts], "standin")
    assert table["dataset"].to_list() == texts
    ceilings = dict(table.select("dataset", "ceiling_exact").rows())
    # That of the published images is between 83 and 85 %.
    assert 0.83 < ceilings.pop("parsasam") < 0.85
    assert set(ceilings.values()) == {1.0}


def test_a_dataset_without_declared_fonts_has_no_row() -> None:
    assert ambiguity([replace(PARSASAM, faces=())], "standin").height == 0
