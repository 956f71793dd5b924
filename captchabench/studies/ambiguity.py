"""Symbols that the fonts of stand-ins draw alike, and the highest exact match that they leave possible."""

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

# Glyphs are drawn at _SIZE pixels per em, then scaled to _HEIGHT pixels, padded and blurred (standard deviation).
_SIZE, _HEIGHT, _BLUR = 96, 32, 1.5
_PADDING = 8
# Two glyphs are alike if their cosine distance is at most this. A rotation by three degrees moves a glyph by 0.017 (the
# median over these fonts), and stand-ins are drawn with rotations of up to ten degrees.
_MAX_DISTANCE = 0.02
# And if their heights differ by at most this factor, which is within the range of sizes and warps of stand-ins.
_MAX_HEIGHT_RATIO = 1.2

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
    """One row per dataset that declares its fonts, sorted; columns of SCHEMA.

    pairs: symbols that at least one of the fonts draws alike, such as "Il Oo". ceiling_exact: the expected exact match
    of a reader whose only errors are guesses among such symbols. ceiling_exact_folded: the same with case folded. Both
    assume one font per image, and that all fonts and all symbols are equally likely.
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
    """The `symbols` grouped by whether `face` draws them alike, in the order of their first symbols.

    Most groups have one symbol. The height of a glyph above the baseline is not compared, since stand-ins vary it.
    """
    masks = [glyph(face, _SIZE, symbol).mask for symbol in symbols]
    images = [_scaled(mask) for mask in masks]
    pairs = [
        (i, j)
        for i, j in combinations(range(len(symbols)), 2)
        if max(len(masks[i]), len(masks[j])) <= _MAX_HEIGHT_RATIO * min(len(masks[i]), len(masks[j]))
        and _distance(images[i], images[j]) <= _MAX_DISTANCE
    ]
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    edges = coo_array((np.ones(len(pairs), bool), (left, right)), shape=(len(symbols), len(symbols)))
    groups: dict[int, str] = {}
    for symbol, group in zip(symbols, connected_components(edges, directed=False)[1].tolist(), strict=True):
        groups[group] = groups.get(group, "") + symbol
    return list(groups.values())


def _scaled(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A glyph's mask [h, w] scaled to the common height, padded and blurred."""
    width = max(1, round(mask.shape[1] * _HEIGHT / mask.shape[0]))
    scaled = cv2.resize(mask.astype(np.float32), (width, _HEIGHT), interpolation=cv2.INTER_AREA)
    blurred: NDArray[np.float32] = cv2.GaussianBlur(np.pad(scaled, _PADDING), (0, 0), _BLUR)
    return blurred


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Cosine distance of two images of equal height at the best horizontal offset: 0 for equal images, at most 1."""
    narrow, wide = sorted((one, other), key=lambda image: image.shape[1])
    overlaps = cv2.matchTemplate(np.pad(wide, 2), narrow, cv2.TM_CCORR)
    return 1 - float(overlaps.max() / np.sqrt(np.vdot(one, one) * np.vdot(other, other)))


def _ceiling(dataset: Dataset, groups: Sequence[str], folded: bool) -> float:
    """The expected exact match, with one font, of a reader that guesses the likeliest symbol of each group."""
    correct = sum(
        max(Counter(fold_case(symbol) if folded else symbol for symbol in group).values()) for group in groups
    )
    lengths = range(dataset.min_length, dataset.max_length + 1)
    return float(np.mean([(correct / len(dataset.alphabet)) ** length for length in lengths]))
