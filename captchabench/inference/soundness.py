"""Whether what a model gives can be probabilities: finite weights may be so large that what comes of them is not."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captchabench.errors import InputError
from captchabench.models.base import Recogniser
from captchabench.networks.readings import Reading

if TYPE_CHECKING:
    from torch import Tensor

# Of log-probabilities: no trained network's are lower, and a text's are sums of some hundred. Rounding lifts them
# above 0.
_LOWEST, _HIGHEST = -1e30, 1e-3


def watch_network(recogniser: Recogniser, place: Path) -> None:
    """Have the network of a deep model, loaded from `place`, raise InputError instead of giving no probabilities."""
    network = getattr(recogniser, "network", None)
    if network is not None:
        network.register_forward_hook(lambda _module, _images, log_probs: check_log_probs(log_probs, place))


def check_log_probs(log_probs: "Tensor", place: Path) -> None:
    """Raise InputError where `log_probs`, of any shape, hold what cannot be the logarithm of a probability."""
    # NaN is in no interval.
    if not bool(((log_probs >= _LOWEST) & (log_probs <= _HIGHEST)).all()):
        raise _damaged(place)


def check_reading(reading: Reading, recogniser: Recogniser, place: Path) -> None:
    """Raise InputError where confidences are not finite, or no characters were found for want of finite scores."""
    finite = np.isfinite(reading.confidences).all()
    # Networks may well read less than a label has; what cuts out characters first finds as many.
    whole = hasattr(recogniser, "network") or all(len(text) >= recogniser.spec.min_length for text in reading.texts)
    if not finite or not whole:
        raise _damaged(place)


def _damaged(place: Path) -> InputError:
    return InputError(f"{place}: its weights are damaged: they give no finite probabilities; copy or train it anew")
