"""Words whose characters are read one by one."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.networks.readings import Alternative


def likeliest_words(log_probs: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The words with the highest product of their characters' probabilities, best first.

    log_probs: [N, L, K], the log-probability of each class at each place. Returns class ids [N, M, L] and
    log-probabilities [N, M], M being `count` or the number of words there are. Exact: the first characters of a word
    among the best are among the best of that length.
    """
    n, length, classes = log_probs.shape
    ids = np.zeros((n, 1, 0), np.int64)
    scores = np.zeros((n, 1), np.float32)
    for place in range(length):
        longer = (scores[:, :, None] + log_probs[:, None, place, :]).reshape(n, -1)
        best = np.argsort(-longer, axis=1, kind="stable")[:, :count]
        scores = np.take_along_axis(longer, best, axis=1)
        before = np.take_along_axis(ids, (best // classes)[:, :, None], axis=1)
        ids = np.concatenate([before, (best % classes)[:, :, None]], axis=2)
    return ids, scores


def as_alternatives(
    alphabet: Alphabet, ids: Iterable[NDArray[np.int64]], log_probs: Iterable[float], count: int
) -> tuple[Alternative, ...]:
    """The first `count` different texts that rows of class `ids`, best first, spell; negative ids are left out."""
    found: dict[str, float] = {}
    for row, log_prob in zip(ids, log_probs, strict=True):
        if np.isneginf(log_prob) or len(found) == count:
            break
        found.setdefault(alphabet.decode(row[row >= 0]), min(1.0, float(np.exp(log_prob))))
    return tuple(Alternative(*pair) for pair in found.items())
