"""The metrics of the leaderboard, each with its direction and a one-line description."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from captchabench.registry import Registry
from captchabench.scoring.calibration import expected_calibration_error
from captchabench.scoring.counts import Counts


@dataclass(frozen=True)
class Metric:
    """One column of the leaderboard.

    compute: from counts over at least one image; returns None for a model without such a value. For a metric that does
    not follow from counts, such as a time, `compute` itself is None.
    """

    name: str
    higher_is_better: bool
    description: str
    compute: Callable[[Counts], float | None] | None = None


def exact(counts: Counts) -> float:
    """Share of images read correctly."""
    return counts.exact / counts.n


def exact_folded(counts: Counts) -> float:
    """Share of images read correctly, upper and lower case counted as equal."""
    return counts.exact_folded / counts.n


def cer(counts: Counts) -> float:
    """Edits per character of the labels, over all images; above 1 if predictions are much too long."""
    return counts.edits / counts.characters


def char_accuracy(counts: Counts) -> float:
    """Share of the labels' characters that are aligned with an equal one."""
    return sum(n for (a, b), n in counts.confusion.items() if a == b) / counts.characters


def position_accuracy(counts: Counts) -> float:
    """Share of the labels' characters that are read at their own position: one insertion makes all later ones wrong."""
    return counts.in_place / counts.characters


def mean_edit_distance(counts: Counts) -> float:
    """Edits per image."""
    return counts.edits / counts.n


def ctc_loss(counts: Counts) -> float | None:
    """Mean negative log-likelihood of the label, in nats per image; None for a model without one."""
    return None if counts.ctc_loss is None else counts.ctc_loss / counts.n


def selection(counts: Counts) -> float | None:
    """Share of the challenges "select all tiles with X" that are solved; None for texts."""
    if counts.selections is None:
        return None
    return sum(solved for _, solved in counts.selections.values()) / sum(n for n, _ in counts.selections.values())


def ece(counts: Counts) -> float:
    """Word-level expected calibration error."""
    return expected_calibration_error(counts.reliability)


def macro_scores(counts: Counts) -> tuple[float, float, float]:
    """Precision, recall and F1, each averaged over the characters that occur in the labels.

    A deleted or substituted character is a false negative of the label's character. An inserted character, or one read
    in place of another, is a false positive of the character that was read. A character that is never read has
    precision 0. Characters that occur in no label have no class: they only count as errors of the others.
    """
    hits: Counter[str] = Counter()
    actual: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for (a, b), n in counts.confusion.items():
        actual[a] += n
        predicted[b] += n
        hits[a] += n * (a == b)
    # The names of gaps are longer than a character.
    symbols = sorted(s for s in actual if len(s) == 1)
    hit = np.array([hits[s] for s in symbols], float)
    support = np.array([actual[s] for s in symbols], float)
    read = np.array([predicted[s] for s in symbols], float)
    precision = hit / np.maximum(read, 1)
    return float(precision.mean()), float((hit / support).mean()), float((2 * hit / (support + read)).mean())


SCORED = (
    Metric("exact", True, "images read entirely right, case-sensitive", exact),
    Metric("exact_folded", True, "the same, upper and lower case counted as equal", exact_folded),
    Metric("cer", False, "edits per character of the labels (Levenshtein)", cer),
    Metric(
        "char_accuracy", True, "characters of the labels aligned with an equal one, as OCR is scored", char_accuracy
    ),
    Metric(
        "position_accuracy",
        True,
        "characters of the labels read at their own position: per-character accuracy",
        position_accuracy,
    ),
    Metric("mean_edit_distance", False, "edits per image", mean_edit_distance),
    Metric("precision", True, "of the characters, macro average", lambda c: macro_scores(c)[0]),
    Metric("recall", True, "of the characters, macro average", lambda c: macro_scores(c)[1]),
    Metric("f1", True, "of the characters, macro average", lambda c: macro_scores(c)[2]),
    Metric("ctc_loss", False, "negative log-likelihood of the label, nats per image; CTC models only", ctc_loss),
    Metric("selection", True, 'challenges "select all tiles with X" solved, over all X of each grid', selection),
    Metric("ece", False, "word-level calibration error, 15 equal bins", ece),
    Metric("coverage_99", True, "share of images read, most confident first, with 99 % of them right"),
)
COSTS = (
    Metric("parameters", False, "learned numbers"),
    Metric("train_seconds", False, "seconds to train one fold's model, mean over folds"),
    Metric("images_per_second", True, "images read per second, all folds together"),
)

METRICS: Registry[Metric] = Registry("metric")
for _metric in (*SCORED, *COSTS):
    METRICS.add(_metric.name, _metric)
