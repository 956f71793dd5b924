"""Symbols drawn alike, and the ceiling of exact match that follows."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from captchabench.datasets import DATASETS
from captchabench.datasets.drawing.glyphs import Face, glyph, paste
from captchabench.studies.ambiguity import alike, ambiguity

PARSASAM = DATASETS["parsasam"]
# Draws l and I alike to the pixel, and nothing else of these.
MANROPE = next(face for face in PARSASAM.faces if face.package == "font_manrope")
CAPITALS = next(face for face in PARSASAM.faces if face.capitals)
SERIF = next(face for face in PARSASAM.faces if face.package == "font_source_serif_pro")


def test_equal_glyphs_are_grouped_and_similar_ones_are_not() -> None:
    assert alike("IlEFceOCnu1", MANROPE, 36) == ["Il", "E", "F", "c", "e", "O", "C", "n", "u", "1"]
    assert alike("cCsSvVwWxXzZpP", MANROPE, 36) == list("cCsSvVwWxXzZpP")
    # Rounded to whole pixels, one of the two is higher.
    assert alike("Il", MANROPE, 38) == ["I", "l"]


def test_a_font_of_capitals_draws_lower_case_alike() -> None:
    assert alike("AaSs12", CAPITALS, 36) == ["Aa", "Ss", "1", "2"]


def test_the_ceiling_by_hand() -> None:
    # At two of the four sizes, one of the two fonts draws I and l alike: then a reader gets 3 of 4 symbols right. Case
    # folding does not merge the two.
    dataset = replace(PARSASAM, symbols="IlXY", faces=(MANROPE, SERIF), min_length=2, max_length=3)
    row = ambiguity([dataset], "standin").row(0, named=True)
    expected = np.mean([1, 1, 1, np.mean([0.75**2, 0.75**3])])
    assert row.pop("basis").startswith("glyphs equal as drawn")
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


def test_no_trained_reader_passes_a_ceiling() -> None:
    """One font and size, S and s: a least-squares reader of their pixels, turned and noisy, tells them apart.

    They look alike once they are scaled to one height, but they are not the same pixels: no ceiling may count them.
    """
    rng = np.random.default_rng(0)
    for symbols, ceiling in (("Ss", 1.0), ("Il", 0.5)):
        train, test = (_drawn(symbols, MANROPE, 36, rng) for _ in range(2))
        classes = np.array([symbol == symbols[1] for symbol in train[1]], float)
        weights = np.linalg.lstsq(np.c_[train[0], np.ones(len(classes))], classes, rcond=1e-3)[0]
        read = np.c_[test[0], np.ones(len(test[0]))] @ weights > 0.5
        exact = np.mean(read == (test[1] == symbols[1]))
        counted = replace(PARSASAM, symbols=symbols, faces=(MANROPE,), min_length=1, max_length=1)
        groups = alike(counted.alphabet.symbols, MANROPE, 36)
        assert len(groups) / 2 == ceiling
        # 400 images: three standard errors above the ceiling are 7.5 points.
        assert exact <= ceiling + 0.075
        assert exact > ceiling - 0.1


def _drawn(
    symbols: str, face: Face, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """400 images of one symbol each, turned by up to 8 degrees and shifted, with noise: pixels and symbols."""
    labels = rng.choice(list(symbols), 400)
    images = []
    for label in labels:
        canvas = np.zeros((48, 48), np.uint8)
        shape = glyph(face, size, str(label))
        paste(canvas, shape.mask, 16 + int(rng.integers(5)), 40 + shape.top)
        turn = cv2.getRotationMatrix2D((24.0, 28.0), float(rng.uniform(-8, 8)), 1.0)
        turned = cv2.warpAffine(canvas, turn, (48, 48)).astype(float) / 255
        images.append(cv2.resize(turned + rng.normal(0, 0.1, turned.shape), (16, 16)).ravel())
    return np.array(images), labels


def test_the_ceiling_of_an_archive_is_that_of_its_generator() -> None:
    texts = [DATASETS[name] for name in DATASETS.names() if DATASETS[name].task == "text"]
    (row,) = ambiguity(texts, "archive").iter_rows(named=True)
    assert (row["dataset"], row["ceiling_exact"]) == ("parsasam", 0.845)
    assert "Gregwar" in row["basis"]


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
