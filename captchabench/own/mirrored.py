"""Tiles and their mirror images, to train on. The engine's distortions are made for texts and do not mirror."""

import numpy as np

from captchabench.normalize.grids import compose, split_grids
from captchabench.samples.shards import Samples


def with_mirrored_tiles(samples: Samples) -> Samples:
    """Grids, and as many with the same tiles mirrored left to right.

    The samples are returned as they are if they are no grids, or if all classes have names of one symbol: such tiles
    show characters, and a mirrored character is another one or none.
    """
    names = samples.info.class_names
    if not names or max(map(len, names)) == 1:
        return samples
    mirrored = compose(np.ascontiguousarray(split_grids(samples.pixels)[..., ::-1]))
    return Samples(
        samples.info,
        np.concatenate([samples.sample_ids, samples.sample_ids + "-mirrored"]),
        np.concatenate([samples.labels] * 2),
        np.concatenate([samples.folds] * 2),
        np.concatenate([samples.datasets] * 2),
        np.concatenate([samples.pixels, mirrored]),
    )
