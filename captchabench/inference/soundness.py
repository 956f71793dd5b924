"""Checks that the outputs of a model can be probabilities: huge but finite weights can lead to NaN or infinity."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captchabench.errors import InputError
from captchabench.models.base import Recogniser
from captchabench.networks.readings import Reading

if TYPE_CHECKING:
    from torch import Tensor

# Bounds on log-probabilities. No trained network goes below the lower one, even summed over the hundred or so positions
# of a text. Rounding can raise them slightly above 0.
_LOWEST, _HIGHEST = -1e30, 1e-3


def watch_network(recogniser: Recogniser, path: Path) -> None:
    """Make the network of a deep model, loaded from `path`, raise InputError if its outputs are not probabilities."""
    network = getattr(recogniser, "network", None)
    if network is not None:
        network.register_forward_hook(lambda _module, _images, log_probs: check_log_probs(log_probs, path))


def check_log_probs(log_probs: "Tensor", path: Path) -> None:
    """Raise InputError if a value in `log_probs`, of any shape, cannot be the logarithm of a probability."""
    # Comparisons with NaN are false, so NaN is refused too.
    if not bool(((log_probs >= _LOWEST) & (log_probs <= _HIGHEST)).all()):
        raise _damaged(path)


def check_reading(reading: Reading, recogniser: Recogniser, path: Path) -> None:
    """Raise InputError if confidences are not finite, or if texts are too short because scores were not finite."""
    finite = np.isfinite(reading.confidences).all()
    # A network may read a text shorter than any label. A model that segments characters always reads enough of them.
    long_enough = hasattr(recogniser, "network") or all(
        len(text) >= recogniser.spec.min_length for text in reading.texts
    )
    if not finite or not long_enough:
        raise _damaged(path)


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: its weights are damaged: they give no finite probabilities; copy or train it again")
