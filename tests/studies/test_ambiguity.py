"""Symbols drawn alike, and the ceiling of exact match that follows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from captchabench.datasets import DATASETS
from captchabench.datasets.drawing.glyphs import Face, glyph, paste
from captchabench.studies.ambiguity import SIZES, alike, ambiguity

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


@pytest.mark.parametrize(
    ("symbols", "faces", "expected"),
    [
        # Alike once scaled to one height, but not the same pixels: no ceiling may count them.
        pytest.param("Ss", (MANROPE,), 1.0, id="S and s"),
        # The same pixels at two of the four sizes.
        pytest.param("Il", (MANROPE,), 0.75, id="I and l"),
        # The same pixels in one of the two fonts.
        pytest.param("Ss", (MANROPE, CAPITALS), 0.75, id="a font of capitals"),
    ],
)
def test_no_trained_reader_passes_a_ceiling(symbols: str, faces: tuple[Face, ...], expected: float) -> None:
    """One symbol per image, in its place and with little noise: what can be told apart, a trained reader tells apart.

    So its exact match is the ceiling, within three standard errors: no higher, and no lower either.
    """
    dataset = replace(PARSASAM, symbols=symbols, faces=faces, min_length=1, max_length=1)
    (ceiling,) = ambiguity([dataset], "standin")["ceiling_exact"]
    assert ceiling == expected
    rng = np.random.default_rng(0)
    (pixels, labels), (unseen, truth) = (_drawn(symbols, faces, rng) for _ in range(2))
    reader = KNeighborsClassifier(15).fit(pixels, labels)
    exact = np.mean(reader.predict(unseen) == truth)
    error = 3 * np.sqrt(0.25 / len(truth))
    assert ceiling - error < exact < ceiling + error


def _drawn(
    symbols: str, faces: Sequence[Face], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """600 images of one symbol each, of all faces and sizes, with noise: pixels and symbols."""
    labels = rng.choice(list(symbols), 600)
    images = []
    for label in labels:
        canvas = np.zeros((48, 48), np.uint8)
        shape = glyph(faces[int(rng.integers(len(faces)))], int(rng.choice(SIZES)), str(label))
        paste(canvas, shape.mask, 16, 40 + shape.top)
        images.append((canvas / 255 + rng.normal(0, 0.02, canvas.shape)).ravel())
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
