"""Assignment of groups of near-duplicates to folds."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from captchabench.errors import InputError, visible

# A fold that is off by this part of its share, and by so many standard deviations of chance, is refused.
_OFF = 0.5
_DEVIATIONS = 5
_EXAMPLES = 3


def assign_folds(sample_ids: NDArray[np.str_], groups: NDArray[np.int64], count: int) -> NDArray[np.int8]:
    """Folds [N] of images with `sample_ids` [N] in `groups` [N] of near-duplicates.

    Groups are numbered from 0 without gaps. A group's fold is a hash of its smallest sample_id. So near-duplicates are
    in the same fold, and so are equal images of two datasets. Adding an image that has no near-duplicate does not
    change the fold of any other.
    """
    order = np.lexsort((sample_ids, groups))
    firsts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    folds = np.array([_fold_of(sample_ids[order[first]], count) for first in firsts], np.int8)
    return folds[groups]


def check_folds(key: str, folds: NDArray[np.int8], groups: NDArray[np.int64], count: int, names: Sequence[str]) -> None:
    """Raise InputError if a fold of the dataset `key` is empty, or if near-duplicates make it far too small or large.

    folds, groups, names: of the N images, as from `assign_folds`.
    """
    sizes = np.bincount(folds, minlength=count)
    members = np.bincount(groups)
    total, largest = len(folds), int(members.max())
    share = total / count
    off = np.abs(sizes - share)
    worst = int(np.argmax(off))
    alike = [visible(names[i], 60) for i in np.flatnonzero(groups == np.argmax(members))[:_EXAMPLES]]
    cause = (
        f"near-duplicates stay in one fold, and the largest group has {largest:,} images, such as {', '.join(alike)}"
    )
    if not sizes.all():
        grouped = f" ({cause})" if largest > 1 else ""
        raise InputError(
            f"params.yaml: folds.count: fold {int(np.argmin(sizes))} of '{key}' is empty with {count} folds of "
            f"{total} images{grouped}; lower it, or raise datasets.{key}.images"
        )
    by_chance = _DEVIATIONS * np.sqrt(share * (1 - 1 / count))
    if largest > 1 and off[worst] > max(_OFF * share, by_chance):
        raise InputError(
            f"{key}: fold {worst} has {sizes[worst]:,} of {total:,} images, and its share is {share:,.0f}: {cause}; "
            "take these copies out of the source, or lower folds.count in params.yaml"
        )


def _fold_of(sample_id: str, count: int) -> int:
    return int.from_bytes(blake2b(sample_id.encode(), digest_size=8).digest(), "big") % count
