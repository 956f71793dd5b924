"""The likeliest texts, given a probability for each character or text. Without torch, for hog_svc."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.networks.readings import Alternative


def likeliest_texts(log_probs: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The texts with the highest product of their characters' probabilities, best first.

    log_probs: [N, L, K], the log-probability of each class at each position. Returns class ids [N, M, L] int64 and
    log-probabilities [N, M] float32, where M is `count` or, if smaller, the number of possible texts. The search is
    exact: a prefix of one of the best texts is one of the best prefixes of its length.
    """
    n, length, classes = log_probs.shape
    ids = np.zeros((n, 1, 0), np.int64)
    scores = np.zeros((n, 1), np.float32)
    for position in range(length):
        longer = (scores[:, :, None] + log_probs[:, None, position, :]).reshape(n, -1)
        best = np.argsort(-longer, axis=1, kind="stable")[:, :count]
        scores = np.take_along_axis(longer, best, axis=1)
        prefixes = np.take_along_axis(ids, (best // classes)[:, :, None], axis=1)
        ids = np.concatenate([prefixes, (best % classes)[:, :, None]], axis=2)
    return ids, scores


def as_alternatives(
    alphabet: Alphabet, ids: Iterable[NDArray[np.int64]], log_probs: Iterable[float], count: int
) -> tuple[Alternative, ...]:
    """The first `count` different texts of the rows of class `ids`, best first. Negative ids are skipped."""
    probabilities: dict[str, float] = {}
    for row, log_prob in zip(ids, log_probs, strict=True):
        if np.isneginf(log_prob) or len(probabilities) == count:
            break
        probabilities.setdefault(alphabet.decode(row[row >= 0]), min(1.0, float(np.exp(log_prob))))
    return tuple(Alternative(*pair) for pair in probabilities.items())
