"""Near-duplicates: groups of images that are the same image to a recogniser.

Images of one captcha design look alike: they share the background and the position of the text. A common 64-bit
perceptual hash confuses distinct images. So the hash has 256 bits: the signs of the lowest frequencies of the image's
cosine transform (after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Two images
are near if at most COARSE_BITS of the 64 lowest frequencies and at most FINE_BITS of all 256 differ.

Clean images of one design can be that near though they show different texts. So only images with the same label are
copies of each other.

The bounds were measured on real fournierp images, six-digit captchas, and images like those of parsasam and vtu:

- A copy re-encoded as JPEG of quality 75 differs in at most 10 of 256 bits.
- Of the copies moved by one source pixel, horizontally or vertically, 98 to 100 % are near.
- Of 200 million pairs of distinct images, none is near. The closest pair differs in 48 bits.

To find the remaining moved copies, images are also compared with other images moved by up to two pixels both ways, and
inverted. `benchmarks/copies.py` measures what is found; docs/duplicates.md has its table.

Images of few and plain classes can be near each other in long chains. If a group is a chain, closer pairs are required
in it, see `duplicate_groups`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

BITS = 256
COARSE_BITS = 9
FINE_BITS = 40
# Distinct images of one label can be near by chance, and more so if they are moved. So with more images of one label
# than MAX_FEW, pairs of moved images must be closer, and those moved further or inverted closer still.
MAX_FEW = 20
MOVED_COARSE_BITS = 4
FAR_BITS = 20
# Copies that were only encoded again differ in at most so many bits.
COPY_BITS = 10
WINDOWS = 8
_LITTLE = 3  # of the windows: unmoved, or moved by one pixel
# Any two of these windows are apart by another move, and every move by up to two pixels both ways is among them.
_CORNERS = ((1, 1), (1, 0), (0, 1), (0, 0), (0, 2), (2, 0), (2, 2))
# The bounds that are tried until a group is no chain; at last, only images with equal hashes are together.
_BOUNDS = (FINE_BITS, FINE_BITS // 2, COPY_BITS, 0)
# In a group, any two images are connected by at most so many pairs.
_MAX_LINKS = 4

# Captchas are wide, so a vertical move by one pixel is a larger part of the image than a horizontal one. With this
# weight on vertical frequencies, both moves flip about the same number of bits.
_VERTICAL_WEIGHT = 3
_SCALE = 1 << 10
_BATCH = 32
# The 64 coarse bits are split into bands. If at most 9 bits differ, one of five bands has at most one of them; if at
# most 4 differ, one band has none.
_BANDS = 5
_PAIRS_AT_ONCE = 1 << 21


def hash_images(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes [N, WINDOWS, 4] of each grey image [N, H, W]: of the image, of it moved in six ways, and of it inverted.

    [..., 0] has the 64 lowest frequencies. All arithmetic is exact, so hashes are the same on every machine. The
    outermost pixels are ignored, since a move brings in new pixels there. Two moved images are compared with each
    other, too: the differences of the six moves are all moves by up to two pixels both ways.
    """
    return _windowed_hashes(pixels, 2, _CORNERS, inverted=True)


def _windowed_hashes(
    pixels: NDArray[np.uint8], smaller: int, corners: Sequence[tuple[int, int]], inverted: bool
) -> NDArray[np.uint64]:
    """Hashes [N, C, 4] of C windows of each image [N, H, W].

    smaller: how much smaller a window is than the image, in height and width. corners: (top, left) of each window.
    inverted: whether one more hash follows, of the first window inverted.
    """
    n, height, width = pixels.shape[0], pixels.shape[1] - smaller, pixels.shape[2] - smaller
    down, across, rows, columns = _basis(height, width)
    # A bit is set if the mean of the product exceeds 1/8 grey level, so that rounding flips no bits of flat images.
    floor = height * width * _SCALE * _SCALE / 8
    bits = np.zeros((n, len(corners) + inverted, BITS), bool)
    with threadpool_limits(1, "blas"):
        for start in range(0, n, _BATCH):
            # All values are integers below 2^53, so float64 sums are exact in any order.
            batch = pixels[start : start + _BATCH].astype(np.float64)
            # Windows with the same left edge share this product, which is the larger part of the work.
            lines = {left: batch[:, :, left : left + width] @ across for left in {left for _, left in corners}}
            for window, (top, left) in enumerate(corners):
                spectrum = down @ lines[left][:, top : top + height]
                chosen = spectrum[:, rows, columns]
                bits[start : start + _BATCH, window, : len(rows)] = chosen > floor
                if inverted and window == 0:
                    bits[start : start + _BATCH, -1, : len(rows)] = chosen < -floor
    return np.packbits(bits, axis=2, bitorder="little").view("<u8")


def near_pairs(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], coarse_bits: int = COARSE_BITS
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Index arrays (i, j) of all near pairs of one label among `hashes` [N, 4], and the number of bits that differ.

    labels: [N] numbers from 0. Hashes of one label must be distinct. Two hashes are near if at most `coarse_bits` (9 or
    fewer) of the 64 lowest bits and FINE_BITS of all bits differ. The search is exact, but does not compare all pairs.
    By the pigeonhole principle, the coarse bits of a near pair differ by at most one bit in some band, and are equal in
    some band if fewer bits differ than there are bands (multi-index hashing, Norouzi et al., CVPR 2012).
    """
    near = [np.empty((0, 3), np.int64)]
    for band in range(_BANDS):
        low, high = 64 * band // _BANDS, 64 * (band + 1) // _BANDS
        keys = ((hashes[:, 0] >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)).astype(np.int64)
        keys |= labels << (high - low)
        # Sorted by key, so that the hashes of a bucket are adjacent in memory; this makes the search fast.
        order = np.argsort(keys, kind="stable")
        coarse = hashes[order, 0]
        flips = [0] + [1 << bit for bit in range(high - low)] if coarse_bits >= _BANDS else [0]
        for left, right in _joins(keys[order], flips):
            candidates = np.flatnonzero(np.bitwise_count(coarse[left] ^ coarse[right]) <= coarse_bits)
            pairs = np.stack([order[left[candidates]], order[right[candidates]]], axis=1)
            distances = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).sum(axis=1, dtype=np.int64)
            close = distances <= FINE_BITS
            near.append(np.column_stack([np.sort(pairs[close], axis=1), distances[close]]))
    distinct = np.unique(np.concatenate(near), axis=0)
    return distinct[:, 0], distinct[:, 1], distinct[:, 2]


def duplicate_groups(hashes: NDArray[np.uint64], labels: Iterable[str]) -> NDArray[np.int64]:
    """Group numbers [N] of images with `hashes` [N, V, 4], see `hash_images`, and N `labels`.

    Two images are in the same group if they have the same label and are near, or one is near the
    other moved or inverted, or a chain of such pairs connects them. A chain in which two images are more than
    _MAX_LINKS pairs apart is no group of copies: there, only closer pairs count.
    """
    n, windows = hashes.shape[:2]
    groups = np.arange(n)
    numbers = np.unique(list(labels), return_inverse=True)[1].astype(np.int64)
    images = np.bincount(numbers)
    # Most labels of texts occur once. Their images have no copies.
    shared = np.flatnonzero(images[numbers] > 1)
    if not len(shared):
        return groups
    rows = np.column_stack([np.repeat(numbers[shared], windows).astype(np.uint64), hashes[shared].reshape(-1, 4)])
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    label_of, distinct = distinct[:, 0].astype(np.int64), np.ascontiguousarray(distinct[:, 1:])
    hash_ids = inverse.reshape(len(shared), windows)
    pairs = _pairs(distinct, label_of, images[label_of] <= MAX_FEW, hash_ids)
    # The nodes of the graph are images and hashes. An edge connects an image with each of its hashes, and near hashes.
    image_edges = np.stack([np.repeat(np.arange(len(shared)), windows), len(shared) + hash_ids.reshape(-1)])
    members = _bounded_groups(image_edges, len(shared) + pairs[:, :2].T, pairs[:, 2], len(shared), len(distinct))
    # A group has the number of its first image.
    firsts = np.unique(members, return_index=True)[1]
    groups[shared] = shared[firsts[members]]
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _pairs(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], few: NDArray[np.bool_], hash_ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Near pairs [P, 3] of distinct `hashes` [D, 4]: two indices, and the number of bits that differ.

    few: [D], whether the label has few images. hash_ids: [N, V], the hashes of each image.
    """

    def near(chosen: NDArray[np.int64], coarse_bits: int) -> NDArray[np.int64]:
        i, j, bits = near_pairs(hashes[chosen], labels[chosen], coarse_bits)
        return np.column_stack([chosen[i], chosen[j], bits])

    unmoved, little = np.zeros((2, len(hashes)), bool)
    unmoved[hash_ids[:, 0]] = True
    little[hash_ids[:, :_LITTLE]] = True
    moved = near(np.flatnonzero(~few), MOVED_COARSE_BITS)
    return np.concatenate(
        [
            near(np.flatnonzero(few), COARSE_BITS),
            near(np.flatnonzero(~few & unmoved), COARSE_BITS),
            moved[little[moved[:, :2]].all(axis=1) | (moved[:, 2] <= FAR_BITS)],
        ]
    )


def _bounded_groups(
    image_edges: NDArray[np.int64], near: NDArray[np.int64], bits: NDArray[np.int64], images: int, hashes: int
) -> NDArray[np.int64]:
    """Group numbers [images], without gaps. Where a group is a chain, its pairs that differ in more bits are dropped.

    image_edges, near: [2, E], edges between images and hashes, and between hashes. bits: of each near pair.
    """
    nodes = images + hashes
    in_chain = np.zeros(nodes, bool)
    kept = np.ones(len(bits), bool)
    for bound in _BOUNDS:
        kept &= ~in_chain[near[0]] | (bits <= bound)
        edges = np.concatenate([image_edges, near[:, kept]], axis=1)
        graph = coo_array((np.ones(edges.shape[1], bool), tuple(edges)), shape=(nodes, nodes)).tocsr()
        groups: NDArray[np.int32] = connected_components(graph, directed=False)[1]
        in_chain = np.isin(groups, _chains(graph, groups[:images]))
        if not in_chain.any():
            break
    return np.unique(groups[:images], return_inverse=True)[1].astype(np.int64)


def _chains(graph: csr_array, groups: NDArray[np.int32]) -> NDArray[np.int64]:
    """The numbers of the groups in which two images are more than _MAX_LINKS pairs apart.

    The distance is that from the image which is farthest from the group's first one.
    """
    chains = []
    numbers, firsts, counts = np.unique(groups, return_index=True, return_counts=True)
    # A chain of so many pairs has more images.
    for large in np.flatnonzero(counts > _MAX_LINKS + 1):
        order, pairs = _walk(graph, firsts[large], len(groups))
        _, pairs = _walk(graph, order[np.argmax(pairs)], len(groups))
        if pairs.max() > _MAX_LINKS:
            chains.append(numbers[large])
    return np.array(chains, np.int64)


def _walk(graph: csr_array, start: int, images: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The nodes that `start` is connected with, and how many pairs of near hashes are on the way to each.

    images: the number of nodes that are images. They come before the hashes.
    """
    order, before = breadth_first_order(graph, start, directed=False)
    pairs = {int(start): 0}
    for node in order[1:].tolist():
        last = int(before[node])
        pairs[node] = pairs[last] + (node >= images and last >= images)
    return order, np.array([pairs[node] for node in order.tolist()])


def _joins(keys: NDArray[np.int64], flips: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs (left < right) of items whose `keys` [N], sorted, differ exactly in the bits of one of the `flips`.

    At most about _PAIRS_AT_ONCE pairs are yielded at a time.
    """
    distinct, starts, counts = np.unique(keys, return_index=True, return_counts=True)
    for flip in flips:
        at = np.minimum(np.searchsorted(distinct, distinct ^ flip), len(distinct) - 1)
        paired = np.flatnonzero((distinct[at] == distinct ^ flip) & (distinct ^ flip >= distinct))
        others = at[paired]
        items = _runs(starts[paired], counts[paired])
        begins = np.repeat(starts[others], counts[paired])
        ends = np.repeat((starts + counts)[others], counts[paired])
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
