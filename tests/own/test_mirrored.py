"""Tiles and their mirror images."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from captchabench.normalize.grids import split_grids
from captchabench.own.mirrored import with_mirrored_tiles
from captchabench.samples.shards import Samples


def test_each_tile_is_mirrored_in_its_place(make_samples: Callable[..., Samples]) -> None:
    texts = make_samples(4)
    assert with_mirrored_tiles(texts) is texts
    grids = replace(
        texts,
        info=replace(texts.info, class_names=("bus", "car")),
        pixels=np.random.default_rng(0).integers(0, 255, (4, 24, 30), dtype=np.uint8),
    )
    both = with_mirrored_tiles(grids)
    assert len(both) == 8
    assert (both.pixels[:4] == grids.pixels).all()
    assert (split_grids(both.pixels[4:]) == split_grids(grids.pixels)[..., ::-1]).all()
    assert list(both.labels[4:]) == list(grids.labels)
    assert len(set(both.sample_ids)) == 8


def test_characters_are_not_mirrored(make_samples: Callable[..., Samples]) -> None:
    texts = make_samples(4)
    digits = replace(texts, info=replace(texts.info, class_names=tuple("0123456789")))
    assert with_mirrored_tiles(digits) is digits
