"""Near-duplicates: which images are, to a recogniser, one and the same.

Images of one captcha design look alike: same background, same place of the text. A classic 64-bit perceptual
hash mixes distinct ones up. So the hash has 256 bits, the signs of the lowest frequencies of the image's
cosine transform (after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010),
and two images are near when at most `COARSE_BITS` of the 64 lowest and `FINE_BITS` of all 256 differ.

The bounds were measured on real fournierp images, six-digit captchas, and twins of parsasam and vtu. A copy
re-encoded as JPEG of quality 75 differs in at most 10 of 256 bits; of copies moved by a pixel of the source sideways
or up and down, 98 to 100 % are near; of 200 million pairs of distinct images none is, the nearest being 48 apart.
So that the others do not escape, an image is compared with the others moved by a pixel, too: then all were found, of a
pixel of the source or of the normalised image.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

BITS = 256
COARSE_BITS = 9
FINE_BITS = 40
# With one of the two moved by a pixel, copies agree better than that; and so few bits are found faster.
MOVED_COARSE_BITS = 4

# Captchas are wide: a pixel downwards is a larger part of the image than a pixel sideways, and flips more
# bits of the same frequency. With this weight both flip about as many.
_VERTICAL_WEIGHT = 3
_SCALE = 1 << 10
_BATCH = 32
# Of five bands of the coarse hash, 9 differing bits leave one with at most one of them, 4 leave one without any.
_BANDS = 5
_PAIRS_AT_ONCE = 1 << 21


def hashes_of_moved(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes [N, 3, 4] of grey images [N, H, W]: as they are, moved right and moved down by a pixel.

    [..., 0] holds the 64 lowest frequencies. They are computed in whole numbers, so that they are the same on every
    machine.

    The outermost pixels are left out, since moving brings in others there. Left and up need no hash: an image moved
    left is one that, moved right, gives the other.
    """
    return _windowed_hashes(pixels, 2, [(1, 1), (1, 0), (0, 1)])


def _windowed_hashes(pixels: NDArray[np.uint8], smaller: int, corners: Sequence[tuple[int, int]]) -> NDArray[np.uint64]:
    """Hashes [N, C, 4] of C windows of each image, `smaller` than it both ways; corners: (top, left) of each."""
    n, height, width = pixels.shape[0], pixels.shape[1] - smaller, pixels.shape[2] - smaller
    down, across, rows, columns = _basis(height, width)
    # A frequency counts as present from 1/8 grey level on average: flat areas must not flip on rounding.
    floor = height * width * _SCALE * _SCALE / 8
    bits = np.zeros((n, len(corners), BITS), bool)
    with threadpool_limits(1, "blas"):
        for start in range(0, n, _BATCH):
            # Whole numbers below 2^53: exact in float64, in whatever order the products are summed.
            batch = pixels[start : start + _BATCH].astype(np.float64)
            # Windows above each other share the larger part of the work.
            lines = {left: batch[:, :, left : left + width] @ across for left in {left for _, left in corners}}
            for place, (top, left) in enumerate(corners):
                spectrum = down @ lines[left][:, top : top + height]
                bits[start : start + _BATCH, place, : len(rows)] = spectrum[:, rows, columns] > floor
    return np.packbits(bits, axis=2, bitorder="little").view("<u8")


def near_pairs(
    hashes: NDArray[np.uint64], coarse_bits: int = COARSE_BITS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index arrays (i, j) of all pairs of near hashes among `hashes` [N, 4], which must differ.

    Near are those of which at most `coarse_bits` (9 or fewer) of the 64 lowest bits and FINE_BITS of all differ. Exact:
    finds every such pair, without comparing all with all. By the pigeonhole principle the coarse halves of a pair
    agree in one of the bands, but for one bit at most, or entirely where fewer bits differ than there are bands
    (multi-index hashing, Norouzi et al., CVPR 2012).
    """
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        low, high = 64 * band // _BANDS, 64 * (band + 1) // _BANDS
        keys = ((hashes[:, 0] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)).astype(np.int64)
        # In the order of the keys a bucket's hashes lie side by side, which is what makes this fast.
        order = np.argsort(keys, kind="stable")
        coarse = hashes[order, 0]
        flips = [0] + [1 << bit for bit in range(high - low)] if coarse_bits >= _BANDS else [0]
        for left, right in _joins(np.bincount(keys, minlength=1 << (high - low)), flips):
            near = np.flatnonzero(np.bitwise_count(coarse[left] ^ coarse[right]) <= coarse_bits)
            pairs = np.stack([order[left[near]], order[right[near]]], axis=1)
            apart = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).sum(axis=1, dtype=np.int64)
            found.append(pairs[apart <= FINE_BITS])
    both = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return both[:, 0], both[:, 1]


def duplicate_groups(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Group numbers [N] of images with `hashes` [N, V, 4]: of the image as it is, then of it moved.

    Near images share a number, whether as they are or with one of them moved, and so do images that a chain of near
    ones connects.
    """
    n = len(hashes)
    distinct, place = np.unique(hashes.reshape(-1, 4), axis=0, return_inverse=True)
    places = place.reshape(hashes.shape[:2])
    unmoved = np.unique(places[:, 0])
    pairs = [unmoved[np.stack(near_pairs(distinct[unmoved]))], np.stack(near_pairs(distinct, MOVED_COARSE_BITS))]
    # A graph of images and of hashes: an image is tied to its own hashes, a hash to those near it.
    own = np.stack([np.repeat(np.arange(n), hashes.shape[1]), n + places.reshape(-1)])
    edges = np.concatenate([own, *(n + near for near in pairs)], axis=1)
    nodes = n + len(distinct)
    graph = coo_array((np.ones(edges.shape[1], bool), tuple(edges)), shape=(nodes, nodes))
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1][:n]
    return groups.astype(np.int64)


def _joins(counts: NDArray[np.int64], flips: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs (left < right) of items whose keys differ in the bits of one of the `flips`.

    Items stand in the order of their keys, `counts` of them a key. Pairs come a bounded number at a time.
    """
    starts = np.cumsum(counts) - counts
    keys = np.flatnonzero(counts)
    for flip in flips:
        mine = keys[(keys ^ flip >= keys) & (counts[keys ^ flip] > 0)]
        items = _runs(starts[mine], counts[mine])
        begins = np.repeat(starts[mine ^ flip], counts[mine])
        ends = np.repeat((starts + counts)[mine ^ flip], counts[mine])
        # Within a bucket an item meets only those behind it.
        begins = np.maximum(begins, items + 1)
        lengths = ends - begins
        passed = np.cumsum(lengths)
        cuts = np.searchsorted(passed, np.arange(_PAIRS_AT_ONCE, lengths.sum(), _PAIRS_AT_ONCE))
        for some in np.split(np.arange(len(items)), cuts):
            yield np.repeat(items[some], lengths[some]), _runs(begins[some], lengths[some])


def _runs(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ... for each of the `lengths`, one run after the other."""
    before = np.cumsum(lengths) - lengths
    runs: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return runs


@lru_cache(maxsize=4)
def _basis(
    height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Cosines [V, H] and [W, U] as whole numbers, and where in [V, U] the chosen frequencies lie."""
    v, u = np.mgrid[0:height, 0:width]
    # In half cycles over the image, whatever its size; the mean, frequency 0, is left out.
    order = np.argsort((_VERTICAL_WEIGHT * v + u).ravel(), kind="stable")[1 : BITS + 1]
    # Neighbouring frequencies go together: dealt out over the bands, so that no band is nearly constant.
    lowest = order[: BITS // 4].copy()
    order[: len(lowest)] = np.concatenate([lowest[band::_BANDS] for band in reversed(range(_BANDS))])
    rows, columns = np.unravel_index(order, (height, width))
    down = np.cos(np.pi * np.outer(np.arange(rows.max() + 1), 2 * np.arange(height) + 1) / (2 * height))
    across = np.cos(np.pi * np.outer(2 * np.arange(width) + 1, np.arange(columns.max() + 1)) / (2 * width))
    return np.rint(down * _SCALE), np.rint(across * _SCALE), rows, columns
