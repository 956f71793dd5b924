"""Symbols that a dataset's fonts draw as the same pixels, and the exact match that no reader can exceed on average."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from captchabench.alphabet import fold_case
from captchabench.datasets.base import Dataset
from captchabench.datasets.drawing.glyphs import Face, glyph
from captchabench.storage.tables import Table

# Pixels per em at which glyphs are compared: about those that stand-ins are drawn at. Rounding to whole pixels makes
# two letters equal at one size and not at the next.
SIZES = (35, 36, 37, 38)
_DRAWN = "glyphs equal as drawn; fonts, sizes and symbols equally likely"
# The fonts of these generators are not here. They were compared elsewhere: see docs/recognisers.md.
_GENERATORS = {
    "parsasam": (0.845, 1.0, "glyphs equal as drawn by Gregwar/Captcha 1.1, if it made the images"),
}

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "pairs": pl.String(),
        "ceiling_exact": pl.Float64(),
        "ceiling_exact_folded": pl.Float64(),
        "basis": pl.String(),
    }
)
AMBIGUITY = Table("metrics/ambiguity.csv", SCHEMA, "ambiguity")


def ambiguity(datasets: Sequence[Dataset], source: str) -> pl.DataFrame:
    """One row per dataset whose fonts are known, sorted; columns of SCHEMA.

    pairs: symbols that at least one of the fonts draws alike, such as "Il Oo". ceiling_exact: the expected exact match
    of a reader whose only errors are guesses among such symbols. ceiling_exact_folded: the same with case folded. Both
    assume one font and size per image, and that all fonts, sizes and symbols are equally likely. basis: how they were
    found.

    Glyphs that only look alike are not counted: a trained reader may tell them apart. So a ceiling may be too high, but
    never too low.
    """
    rows: list[tuple[object, ...]] = []
    for dataset in sorted(datasets, key=lambda d: d.key):
        fonts = [alike(dataset.alphabet.symbols, face, size) for face in dataset.faces for size in SIZES]
        if source != "standin":
            if dataset.key in _GENERATORS:
                exact, folded, basis = _GENERATORS[dataset.key]
                rows.append((dataset.key, source, "", exact, folded, basis))
        elif fonts:
            pairs = {a + b for groups in fonts for group in groups for a, b in combinations(group, 2)}
            shares = [float(np.mean([_ceiling(dataset, groups, fold) for groups in fonts])) for fold in (False, True)]
            rows.append((dataset.key, source, " ".join(sorted(pairs)), *shares, _DRAWN))
    return pl.DataFrame(rows, SCHEMA, orient="row")


def alike(symbols: str, face: Face, size: int) -> list[str]:
    """The `symbols` grouped by whether `face` draws them alike at `size` pixels per em, in the order of their first.

    Most groups have one symbol. Two are alike if every pixel is equal, and their height above the baseline. The space
    beside them is not compared: in an image it is that of their neighbours as well.
    """
    groups: dict[object, str] = {}
    for symbol in symbols:
        drawn = glyph(face, size, symbol)
        key = drawn.mask.shape, drawn.mask.tobytes(), drawn.top
        groups[key] = groups.get(key, "") + symbol
    return list(groups.values())


def _ceiling(dataset: Dataset, groups: Sequence[str], folded: bool) -> float:
    """The expected exact match, with one font, of a reader that guesses the likeliest symbol of each group."""
    correct = sum(
        max(Counter(fold_case(symbol) if folded else symbol for symbol in group).values()) for group in groups
    )
    lengths = range(dataset.min_length, dataset.max_length + 1)
    return float(np.mean([(correct / len(dataset.alphabet)) ** length for length in lengths]))
