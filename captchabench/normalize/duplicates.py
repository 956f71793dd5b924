"""Near-duplicates: groups of images that are the same image to a recogniser.

Images of one captcha design look alike: they share the background and the position of the text. A common 64-bit
perceptual hash confuses distinct images. So the hash has 256 bits: the signs of the lowest frequencies of the image's
cosine transform (after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Two images
are near if at most COARSE_BITS of the 64 lowest frequencies and at most FINE_BITS of all 256 differ.

The bounds were measured on real fournierp images, six-digit captchas, and images like those of parsasam and vtu:

- A copy re-encoded as JPEG of quality 75 differs in at most 10 of 256 bits.
- Of the copies moved by one source pixel, horizontally or vertically, 98 to 100 % are near.
- Of 200 million pairs of distinct images, none is near. The closest pair differs in 48 bits.

To find the remaining moved copies, images are also compared with other images moved by one pixel. This found all copies
that were moved by one pixel, of the source or of the normalised image.
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
# For pairs in which one image was moved: such copies differ in fewer bits, and a lower bound makes the search faster.
MOVED_COARSE_BITS = 4

# Captchas are wide, so a vertical move by one pixel is a larger part of the image than a horizontal one. With this
# weight on vertical frequencies, both moves flip about the same number of bits.
_VERTICAL_WEIGHT = 3
_SCALE = 1 << 10
_BATCH = 32
# The 64 coarse bits are split into bands. If at most 9 bits differ, one of five bands has at most one of them; if at
# most 4 differ, one band has none.
_BANDS = 5
_PAIRS_AT_ONCE = 1 << 21
# A larger group of near-duplicates is not one image that was copied, if its images have different labels.
_MANY = 10


def hash_images(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Three hashes [N, 3, 4] of each grey image [N, H, W]: of the image, and of it moved right and down by one pixel.

    [..., 0] has the 64 lowest frequencies. All arithmetic is exact, so hashes are the same on every machine. The
    outermost pixels are ignored, since a move brings in new pixels there. Moves left and up need no hashes: if A moved
    left equals B, then B moved right equals A.
    """
    return _windowed_hashes(pixels, 2, [(1, 1), (1, 0), (0, 1)])


def _windowed_hashes(pixels: NDArray[np.uint8], smaller: int, corners: Sequence[tuple[int, int]]) -> NDArray[np.uint64]:
    """Hashes [N, C, 4] of C windows of each image [N, H, W].

    smaller: how much smaller a window is than the image, in height and width. corners: (top, left) of each window.
    """
    n, height, width = pixels.shape[0], pixels.shape[1] - smaller, pixels.shape[2] - smaller
    down, across, rows, columns = _basis(height, width)
    # A bit is set if the mean of the product exceeds 1/8 grey level, so that rounding flips no bits of flat images.
    floor = height * width * _SCALE * _SCALE / 8
    bits = np.zeros((n, len(corners), BITS), bool)
    with threadpool_limits(1, "blas"):
        for start in range(0, n, _BATCH):
            # All values are integers below 2^53, so float64 sums are exact in any order.
            batch = pixels[start : start + _BATCH].astype(np.float64)
            # Windows with the same left edge share this product, which is the larger part of the work.
            lines = {left: batch[:, :, left : left + width] @ across for left in {left for _, left in corners}}
            for window, (top, left) in enumerate(corners):
                spectrum = down @ lines[left][:, top : top + height]
                bits[start : start + _BATCH, window, : len(rows)] = spectrum[:, rows, columns] > floor
    return np.packbits(bits, axis=2, bitorder="little").view("<u8")


def near_pairs(
    hashes: NDArray[np.uint64], coarse_bits: int = COARSE_BITS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index arrays (i, j) of all near pairs among `hashes` [N, 4], which must be distinct.

    Two hashes are near if at most `coarse_bits` (9 or fewer) of the 64 lowest bits and FINE_BITS of all bits differ.
    The search is exact, but does not compare all pairs. By the pigeonhole principle, the coarse bits of a near pair
    differ by at most one bit in some band, and are equal in some band if fewer bits differ than there are bands
    (multi-index hashing, Norouzi et al., CVPR 2012).
    """
    near = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        low, high = 64 * band // _BANDS, 64 * (band + 1) // _BANDS
        keys = ((hashes[:, 0] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)).astype(np.int64)
        # Sorted by key, so that the hashes of a bucket are adjacent in memory; this makes the search fast.
        order = np.argsort(keys, kind="stable")
        coarse = hashes[order, 0]
        flips = [0] + [1 << bit for bit in range(high - low)] if coarse_bits >= _BANDS else [0]
        for left, right in _joins(np.bincount(keys, minlength=1 << (high - low)), flips):
            candidates = np.flatnonzero(np.bitwise_count(coarse[left] ^ coarse[right]) <= coarse_bits)
            pairs = np.stack([order[left[candidates]], order[right[candidates]]], axis=1)
            distances = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).sum(axis=1, dtype=np.int64)
            near.append(pairs[distances <= FINE_BITS])
    distinct = np.unique(np.sort(np.concatenate(near), axis=1), axis=0)
    return distinct[:, 0], distinct[:, 1]


def duplicate_groups(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Group numbers [N] of images with `hashes` [N, V, 4]: of each image, then of it moved.

    Two images are in the same group if they are near, if one is near the other moved, or if a chain of such pairs
    connects them.
    """
    n = len(hashes)
    distinct, inverse = np.unique(hashes.reshape(-1, 4), axis=0, return_inverse=True)
    hash_ids = inverse.reshape(hashes.shape[:2])
    unmoved = np.unique(hash_ids[:, 0])
    pairs = [unmoved[np.stack(near_pairs(distinct[unmoved]))], np.stack(near_pairs(distinct, MOVED_COARSE_BITS))]
    # The nodes of the graph are images and hashes. An edge connects an image with each of its hashes, and near hashes.
    image_edges = np.stack([np.repeat(np.arange(n), hashes.shape[1]), n + hash_ids.reshape(-1)])
    edges = np.concatenate([image_edges, *(n + near for near in pairs)], axis=1)
    nodes = n + len(distinct)
    graph = coo_array((np.ones(edges.shape[1], bool), tuple(edges)), shape=(nodes, nodes))
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1][:n]
    return groups.astype(np.int64)


def without_plain(groups: NDArray[np.int64], labels: Sequence[str] | NDArray[np.object_]) -> NDArray[np.int64]:
    """`groups` [N] of near-duplicates with `labels` [N], without groups of images that are only drawn plainly.

    The hash cannot tell short texts apart that are drawn in one place on an empty background. A group of more than ten
    images, of which most have different labels, holds no copies but such images: it is divided by label.
    """
    names, label_ids = np.unique(np.asarray(labels, object).astype(str), return_inverse=True)
    sizes = np.bincount(groups)
    pairs = np.unique(groups * len(names) + label_ids) // max(len(names), 1)
    plain = (sizes > _MANY) & (2 * np.bincount(pairs, minlength=len(sizes)) > sizes)
    divided = np.where(plain[groups], 1 + label_ids, 0)
    numbered: NDArray[np.int64] = np.unique(groups * (1 + len(names)) + divided, return_inverse=True)[1]
    return numbered


def _joins(counts: NDArray[np.int64], flips: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs (left < right) of items whose keys differ exactly in the bits of one of the `flips`.

    The items are sorted by key. counts: the number of items per key. At most about _PAIRS_AT_ONCE pairs are yielded at
    a time.
    """
    starts = np.cumsum(counts) - counts
    keys = np.flatnonzero(counts)
    for flip in flips:
        paired = keys[(keys ^ flip >= keys) & (counts[keys ^ flip] > 0)]
        items = _runs(starts[paired], counts[paired])
        begins = np.repeat(starts[paired ^ flip], counts[paired])
        ends = np.repeat((starts + counts)[paired ^ flip], counts[paired])
        # Within a bucket, an item is paired only with later ones.
        begins = np.maximum(begins, items + 1)
        lengths = ends - begins
        totals = np.cumsum(lengths)
        cuts = np.searchsorted(totals, np.arange(_PAIRS_AT_ONCE, lengths.sum(), _PAIRS_AT_ONCE))
        for part in np.split(np.arange(len(items)), cuts):
            yield np.repeat(items[part], lengths[part]), _runs(begins[part], lengths[part])


def _runs(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The concatenation of the ranges that begin at `starts` and have `lengths`."""
    before = np.cumsum(lengths) - lengths
    runs: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return runs


@lru_cache(maxsize=4)
def _basis(
    height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Scaled integer cosines [V, H] and [W, U]; the rows and columns of the chosen frequencies in [V, U]."""
    v, u = np.mgrid[0:height, 0:width]
    # The lowest frequencies, in half cycles per image, without the mean.
    order = np.argsort((_VERTICAL_WEIGHT * v + u).ravel(), kind="stable")[1 : BITS + 1]
    # Neighbouring frequencies are correlated. They are spread over the bands, so that no band is nearly constant.
    lowest = order[: BITS // 4].copy()
    order[: len(lowest)] = np.concatenate([lowest[band::_BANDS] for band in reversed(range(_BANDS))])
    rows, columns = np.unravel_index(order, (height, width))
    down = np.cos(np.pi * np.outer(np.arange(rows.max() + 1), 2 * np.arange(height) + 1) / (2 * height))
    across = np.cos(np.pi * np.outer(2 * np.arange(width) + 1, np.arange(columns.max() + 1)) / (2 * width))
    return np.rint(down * _SCALE), np.rint(across * _SCALE), rows, columns
