"""Assignment of groups of near-duplicates to folds."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


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


def _fold_of(sample_id: str, count: int) -> int:
    return int.from_bytes(blake2b(sample_id.encode(), digest_size=8).digest(), "big") % count
