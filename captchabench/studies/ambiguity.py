"""Symbols that a stand-in's fonts draw alike, and the exact match that no reader can pass because of them."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from captchabench.alphabet import fold_case
from captchabench.datasets.base import Dataset
from captchabench.datasets.drawing.glyphs import Face, glyph
from captchabench.storage.tables import Table

# Glyphs are drawn at this many pixels an em, then scaled to this height and blurred by so many pixels.
_SIZE, _HEIGHT, _BLUR = 96, 32, 1.5
_ROOM = 8
# Two glyphs are alike when 1 less the cosine of their images is at most this. So far from itself is a glyph turned by
# three degrees (the median over these fonts is 0.017), where drawers turn theirs by up to ten.
_APART = 0.02
# And when the taller is at most so much taller: within a drawer's range of sizes and magnifying warps.
_TALLER = 1.2

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "pairs": pl.String(),
        "ceiling_exact": pl.Float64(),
        "ceiling_exact_folded": pl.Float64(),
    }
)
AMBIGUITY = Table("metrics/ambiguity.csv", SCHEMA, "ambiguity")


def ambiguity(datasets: Sequence[Dataset], source: str) -> pl.DataFrame:
    """One row a dataset whose drawer names its fonts, sorted; columns of SCHEMA.

    pairs: symbols that at least one of the fonts draws alike, as in "Il Oo". The ceilings are the exact match of a
    reader that never errs but for having to guess among such symbols, upper and lower case told apart or not. It takes
    what the drawers do: one font an image, each as often as the others, and so with the symbols.
    """
    rows = []
    for dataset in sorted(datasets, key=lambda d: d.key):
        fonts = [alike(dataset.alphabet.symbols, face) for face in dataset.faces]
        if fonts:
            pairs = {a + b for groups in fonts for group in groups for a, b in combinations(group, 2)}
            exact, folded = (np.mean([_ceiling(dataset, groups, f) for groups in fonts]) for f in (False, True))
            rows.append((dataset.key, source, " ".join(sorted(pairs)), float(exact), float(folded)))
    return pl.DataFrame(rows, SCHEMA, orient="row")


def alike(symbols: str, face: Face) -> list[str]:
    """The `symbols` in groups that `face` draws alike, most of them alone, in the order of their first symbols.

    Where on the line a glyph stands is not compared: drawers move it.
    """
    masks = [glyph(face, _SIZE, symbol).mask for symbol in symbols]
    images = [_at_one_height(mask) for mask in masks]
    pairs = [
        (i, j)
        for i, j in combinations(range(len(symbols)), 2)
        if max(len(masks[i]), len(masks[j])) <= _TALLER * min(len(masks[i]), len(masks[j]))
        and _apart(images[i], images[j]) <= _APART
    ]
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    edges = coo_array((np.ones(len(pairs), bool), (left, right)), shape=(len(symbols), len(symbols)))
    groups: dict[int, str] = {}
    for symbol, group in zip(symbols, connected_components(edges, directed=False)[1].tolist(), strict=True):
        groups[group] = groups.get(group, "") + symbol
    return list(groups.values())


def _at_one_height(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A glyph's mask [h, w] scaled to the common height, with room around it, and blurred."""
    width = max(1, round(mask.shape[1] * _HEIGHT / mask.shape[0]))
    scaled = cv2.resize(mask.astype(np.float32), (width, _HEIGHT), interpolation=cv2.INTER_AREA)
    blurred: NDArray[np.float32] = cv2.GaussianBlur(np.pad(scaled, _ROOM), (0, 0), _BLUR)
    return blurred


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """1 less the cosine of two images of one height, where they fit best: 0 for equal ones, at most 1."""
    narrow, wide = sorted((one, other), key=lambda image: image.shape[1])
    overlaps = cv2.matchTemplate(np.pad(wide, 2), narrow, cv2.TM_CCORR)
    return 1 - float(overlaps.max() / np.sqrt(np.vdot(one, one) * np.vdot(other, other)))


def _ceiling(dataset: Dataset, groups: Sequence[str], folded: bool) -> float:
    """The exact match, with one font, of a reader that names the likeliest symbol of each group."""
    known = sum(max(Counter(fold_case(symbol) if folded else symbol for symbol in group).values()) for group in groups)
    lengths = range(dataset.min_length, dataset.max_length + 1)
    return float(np.mean([(known / len(dataset.alphabet)) ** length for length in lengths]))
