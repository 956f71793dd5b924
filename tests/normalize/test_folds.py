"""Folds: groups are not split, and new images do not move old ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from captchabench.errors import InputError
from captchabench.normalize.duplicates import duplicate_groups
from captchabench.normalize.folds import assign_folds, check_folds


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
    fold_of = assign_folds(ids(rng, count), duplicate_groups(hashes[:, None], ["same"] * count), folds)
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
    before = assign_folds(names[:old], duplicate_groups(hashes[:old, None], ["same"] * old), folds)
    order = rng.permutation(old + new)
    after = assign_folds(names[order], duplicate_groups(hashes[order, None], ["same"] * (old + new)), folds)
    np.testing.assert_array_equal(after[np.argsort(order)][:old], before)


def test_folds_are_about_equal() -> None:
    rng = np.random.default_rng(0)
    sizes = np.bincount(assign_folds(ids(rng, 5000), np.arange(5000), 5))
    assert sizes.min() > 900


def test_a_fold_does_not_depend_on_group_numbers() -> None:
    names = ids(np.random.default_rng(0), 20)
    ascending, descending = assign_folds(names, np.arange(20), 7), assign_folds(names, np.arange(20)[::-1], 7)
    np.testing.assert_array_equal(ascending, descending)


def test_folds_far_from_their_share_are_refused_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    names = [f"in/{n}.png" for n in range(1000)]
    sample_ids = ids(rng, 1000)
    apart = np.arange(1000)
    check_folds("fake", assign_folds(sample_ids, apart, 5), apart, 5, names)
    together = np.unique(np.where(apart < 400, 0, apart), return_inverse=True)[1]
    with pytest.raises(
        InputError,
        match=r"^fake: fold \d has \d+ of 1,000 images, and its share is 200: near-duplicates "
        r"stay in one fold, and the largest group has 400 images, such as in/0\.png, in/1\.png, ",
    ):
        check_folds("fake", assign_folds(sample_ids, together, 5), together, 5, names)
    one = np.zeros(1000, np.int64)
    with pytest.raises(InputError, match=r"fold \d of 'fake' is empty .*near-duplicates .* 1,000 images.*; lower it"):
        check_folds("fake", assign_folds(sample_ids, one, 5), one, 5, names)


def test_small_sets_vary_by_chance() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(15), 2)
    for _ in range(50):
        folds = assign_folds(ids(rng, 30), groups, 3)
        if len(set(folds)) == 3:
            check_folds("fake", folds, groups, 3, ["x"] * 30)
