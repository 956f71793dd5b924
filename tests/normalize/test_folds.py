"""Folds: groups are not split, and new images do not move old ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from captchabench.normalize.duplicates import duplicate_groups
from captchabench.normalize.folds import assign_folds


def ids(rng: np.random.Generator, count: int) -> NDArray[np.str_]:
    return np.array([rng.bytes(16).hex() for _ in range(count)])


def with_copies(rng: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Hashes [count, 4]; about half of them differ from another one in a few bits."""
    hashes = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    for row in range(1, count, 2):
        hashes[row] = hashes[rng.integers(row)] ^ np.uint64(1 << int(rng.integers(64)))
    return hashes


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 10))
@settings(max_examples=60)
def test_near_duplicates_are_in_the_same_fold(seed: int, count: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = with_copies(rng, count)
    fold_of = assign_folds(ids(rng, count), duplicate_groups(hashes[:, None]), folds)
    assert fold_of.dtype == np.int8
    assert ((fold_of >= 0) & (fold_of < folds)).all()
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(-1)
    assert (fold_of[:, None] == fold_of[None])[distances <= 4].all()


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60), st.integers(2, 10))
@settings(max_examples=60)
def test_new_images_without_near_duplicates_move_no_old_ones(seed: int, old: int, new: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    names = ids(rng, old + new)
    # Random hashes differ in about half of their 256 bits, so the new ones are near no other.
    hashes = np.concatenate([with_copies(rng, old), rng.integers(0, 2**64, (new, 4), dtype=np.uint64)])
    before = assign_folds(names[:old], duplicate_groups(hashes[:old, None]), folds)
    order = rng.permutation(old + new)
    after = assign_folds(names[order], duplicate_groups(hashes[order, None]), folds)
    np.testing.assert_array_equal(after[np.argsort(order)][:old], before)


def test_folds_are_about_equal() -> None:
    rng = np.random.default_rng(0)
    sizes = np.bincount(assign_folds(ids(rng, 5000), np.arange(5000), 5))
    assert sizes.min() > 900


def test_a_fold_does_not_depend_on_group_numbers() -> None:
    names = ids(np.random.default_rng(0), 20)
    ascending, descending = assign_folds(names, np.arange(20), 7), assign_folds(names, np.arange(20)[::-1], 7)
    np.testing.assert_array_equal(ascending, descending)
