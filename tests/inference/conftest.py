"""Small trained models in folders, as the `train` stage writes them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from captchabench.models import build_recogniser
from captchabench.samples.shards import Samples, ShardInfo

PARAMETERS = {
    "dummy": {},
    "hog_svc": {},
    "char_cnn": {"channels": [8, 8, 8, 8], "training": {"steps": 2, "batch_size": 16}},
    "crnn": {
        "channels": [8, 8, 16],
        "stem_stride": 2,
        "hidden": 16,
        "layers": 1,
        "decoding": {"method": "beam", "width": 3, "length_prior": True},
        "training": {"steps": 20, "batch_size": 16, "learning_rate": 5e-3},
    },
}


@pytest.fixture(scope="session")
def written(make_samples: Callable[..., Samples]) -> Samples:
    return make_samples(40, lengths=(6, 6))


@pytest.fixture(scope="session")
def info(written: Samples) -> ShardInfo:
    """The description of shards normalised with every optional step: padding and CLAHE."""
    return replace(written.info, dataset="numbers6", version=3, resize="pad", clahe=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, written: Samples, info: ShardInfo) -> Callable[[str], Path]:
    """A function from the name of a model to its folder, trained at the first call."""
    folders: dict[str, Path] = {}

    def trained(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            model = build_recogniser(name, written.info.spec, PARAMETERS[name])
            model.fit(written, written, seed=0)
            model.save(folders[name], info, fold=2)
        return folders[name]

    return trained


@pytest.fixture(scope="session")
def pictures(written: Samples) -> list[bytes]:
    """The samples in colour and at twice their size, encoded as PNG."""
    encoded = []
    for index, grey in enumerate(written.pixels):
        large = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        colour = np.dstack([large, np.roll(large, index % 3, axis=1), large])
        encoded.append(cv2.imencode(".png", colour)[1].tobytes())
    return encoded
