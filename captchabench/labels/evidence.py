"""Whether what a rule reads looks like labels.

A label of a CAPTCHA is a short random text, so most images have different ones, of few lengths and over a small
alphabet. Tiles have few classes, each of which many images share. Counters, hashes and constants are no labels.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

from captchabench.labels.found import Task
from captchabench.labels.names import SEPARATORS

_OF_FILES = frozenset({"file", "text-files", "lines", "lines-natural"})
# Folders that name a part of a set, or what it holds, instead of a class.
_PARTS = frozenset(
    {"batch", "captcha", "captchas", "data", "dataset", "dev", "eval", "fold", "images", "image", "imgs", "img", "part"}
    | {"samples", "set", "split", "test", "testing", "train", "training", "val", "valid", "validation"}
)
_LONGEST = 16  # longer than the text of any CAPTCHA known
_MAX_CLASSES = 100
_MAX_REPEATS = 0.05  # the share of images with one and the same random text
_HASH = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f-]{7,}", re.IGNORECASE)
_EXPRESSION = re.compile(r"\d+(?: ?[-+x*×÷:] ?\d+)+ ?=?[?]?", re.IGNORECASE)


@dataclass(frozen=True)
class Evidence:
    """How well a rule fits. objection: why it cannot be right; empty if it can.

    score: 0 to 1. It is the product of the share of images with a label, the share of labels without separators, the
    consistency of lengths, and a factor below 1 for classes that the name of the file or a number gives.
    """

    task: Task
    score: float
    objection: str


def weigh(labels: Sequence[str | None], rule: str) -> Evidence:
    """The evidence for the labels that the rule called `rule` reads, one per image."""
    found = [label for label in labels if label]
    if not found:
        return Evidence("text", 0, "no image has a label")
    distinct = Counter(found)
    task = task_of(found)
    score = len(found) / len(labels)
    if task == "text":
        score *= _clean_share(found, rule) * _consistency(found)
    elif rule == "folder" and distinct.keys() >= set("0123456789"):
        # Folders 0 to 9 hold digits more likely than parts of a set. Texts in them have a far higher score.
        score *= 0.45
    elif rule not in _OF_FILES and (rule != "folder" or _numbered(distinct)):
        score *= 0.3
    return Evidence(task, score, _objection(found, distinct, task, rule))


def task_of(labels: Sequence[str]) -> Task:
    """Whether labels are texts or the classes of tiles: few, each of many images, and not of one length with digits."""
    distinct = set(labels)
    repeats = len(labels) / len(distinct)
    if len(distinct) > _MAX_CLASSES or repeats < 3:
        return "text"
    lengths = {len(label) for label in distinct}
    with_digits = sum(any(c.isdecimal() for c in label) for label in distinct) / len(distinct)
    random = with_digits > 0.5 or (min(lengths) >= 4 and len(distinct) >= 8)
    return "text" if random and len(lengths) == 1 and min(lengths) > 1 and repeats <= 30 else "tiles"


def _clean_share(labels: Sequence[str], rule: str) -> float:
    """The share of labels in which no separator is left."""
    if rule in _OF_FILES or are_expressions(labels):
        return 1.0
    separators = set(SEPARATORS.values())
    return sum(separators.isdisjoint(label) for label in labels) / len(labels)


def are_expressions(labels: Collection[str]) -> bool:
    """Whether labels are arithmetic, such as `12-3=`: most end in `=`, or they have several operators."""
    expressions = [label for label in labels if _EXPRESSION.fullmatch(label)]
    operators = set("".join(expressions)) - set("0123456789 =?")
    equals = sum("=" in label for label in expressions)
    return len(expressions) >= 0.9 * len(labels) and (2 * equals > len(expressions) or len(operators) > 1)


def _consistency(labels: Sequence[str]) -> float:
    """2 to the power of minus a quarter of the entropy of lengths: 1 for one length, 0.84 for two, 0.67 for five."""
    shares = [count / len(labels) for count in Counter(map(len, labels)).values()]
    entropy = -sum(share * math.log2(share) for share in shares)
    return float(2 ** (-entropy / 4))


def _objection(labels: Sequence[str], distinct: Counter[str], task: Task, rule: str) -> str:
    if len(labels) > 1 and len(distinct) == 1:
        return f"all are '{labels[0]}'"
    if task == "text" and _is_counter(labels, distinct):
        return "they count the images"
    if rule in _OF_FILES:
        return ""
    if rule == "folder":
        parts = sum(count for label, count in distinct.items() if _part(label) in _PARTS)
        return "the folders are parts of the set" if 2 * parts > len(labels) else ""
    if task == "text" and _clean_share(labels, rule) < 0.5:
        return "most hold separators"
    if sorted(map(len, labels))[len(labels) // 2] > _LONGEST:
        return f"most are longer than {_LONGEST} symbols"
    if sum(bool(_HASH.fullmatch(label)) for label in labels) > 0.9 * len(labels):
        return "they are hashes"
    commonest, count = distinct.most_common(1)[0]
    if task == "text" and count > max(_MAX_REPEATS * len(labels), 3):
        return f"{count:,} images have the label '{commonest}'"
    if task == "tiles" and rule.startswith("after"):
        return "they repeat like numbers of copies"
    prefix = _common_prefix(labels)
    if task == "text" and len(labels) >= 8 and len(prefix) > 1:
        return f"all start with '{prefix}'"
    return ""


def _is_counter(labels: Sequence[str], distinct: Counter[str]) -> bool:
    """Whether labels, after a common prefix, are numbers that count: a range of which at least half occurs.

    Random digits of one length can be dense, too, but they reach both ends of the range of their length.
    """
    start = len(_common_prefix([label.rstrip("0123456789") for label in distinct]))
    rests = [label[start:] for label in distinct]
    if not all(rest.isdecimal() and rest.isascii() and len(rest) < _LONGEST for rest in rests):
        return False
    numbers = {int(rest) for rest in rests}
    width = max(map(len, rests))
    span = max(numbers) - min(numbers) + 1
    if len(numbers) < 2 or 2 * len(numbers) < span:
        # A part of a long counter: nine in ten numbers have most digits, and none starts with 0.
        longest = sum(len(rest) == width for rest in rests) / len(rests)
        unpadded = len(set(map(len, rests))) > 1 and not any(rest[0] == "0" for rest in rests if len(rest) > 1)
        return len(labels) == len(distinct) >= 20 and unpadded and longest > 0.8
    whole_range = len({len(rest) for rest in rests}) == 1 and width > 2 and span > 0.9 * 10**width
    return not (whole_range and (len(labels) > len(distinct) or len(numbers) < 0.9 * span))


def _common_prefix(texts: Collection[str]) -> str:
    pairs = zip(min(texts), max(texts), strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _numbered(distinct: Counter[str]) -> bool:
    """Whether classes are numbers, which can as well number parts of a set."""
    return all(re.fullmatch(r"\D*\d+", label) for label in distinct)


def _part(folder: str) -> str:
    return folder.lower().strip("0123456789_- ")
