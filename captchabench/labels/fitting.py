"""Labels in file names that fit a trained model."""

from collections.abc import Callable, Sequence
from unicodedata import normalize

from captchabench.alphabet import Alphabet
from captchabench.datasets.base import stem_of
from captchabench.errors import InputError, visible
from captchabench.labels.rules import OF_NAME, RULES, require_rule


class Unfit(Exception):
    """Raised for a name without a label that the model could read. The message says why."""


class NameLabels:
    """The labels in file names that a model can read: of its symbols, with min_length to max_length of them.

    rule: the only one to use. Without one, `declared` maps the stem to the label; if that does not fit the model, the
    rules on names are tried, and must agree. If the alphabet has each letter in one case only, case is no difference.
    Raises InputError for a rule that needs more than the path of one image.
    """

    def __init__(
        self, alphabet: Alphabet, min_length: int, max_length: int, rule: str, declared: Callable[[str], str] | None
    ) -> None:
        self._alphabet = alphabet
        self._lengths = range(min_length, max_length + 1)
        self._declared = declared
        self._rules: Sequence[str] = (rule,) if rule else OF_NAME
        if rule and not require_rule(rule).of_path:
            of_path = ", ".join((*OF_NAME, "folder"))
            raise InputError(f"--labels {rule}: needs more than the path of an image; name one of {of_path}")
        self._one_case = all(s.swapcase() == s or s.swapcase() not in alphabet for s in alphabet.symbols)

    def of(self, path: str) -> str:
        """The label of the image at `path`. Raises Unfit if none fits the model, or if rules disagree."""
        if self._declared:
            label = self._in_case(normalize("NFC", self._declared(stem_of(path))))
            if not self._misfit(label):
                return label
        labels: dict[str, str] = {}
        for rule in self._rules:
            of_path = RULES[rule].of_path
            assert of_path is not None
            labels.setdefault(self._in_case(of_path(path)), rule)
        fitting = {label: rule for label, rule in labels.items() if not self._misfit(label)}
        if not fitting:
            label = next(iter(labels))
            raise Unfit(f"'{visible(label, 60)}' {self._misfit(label)}")
        if len(fitting) > 1:
            readings = " or ".join(f"'{label}' by {rule}" for label, rule in fitting.items())
            raise Unfit(f"can be {readings}; decide with --labels RULE")
        return next(iter(fitting))

    def _in_case(self, label: str) -> str:
        if not self._one_case:
            return label
        return "".join(s.swapcase() if s not in self._alphabet and s.swapcase() in self._alphabet else s for s in label)

    def _misfit(self, label: str) -> str:
        """Why the model cannot read `label`; empty if it can."""
        if len(label) not in self._lengths:
            low, high = self._lengths[0], self._lengths[-1]
            return f"has {len(label)} symbols instead of {low if low == high else f'{low} to {high}'}"
        foreign = "".join(dict.fromkeys(self._alphabet.foreign(label)))
        return f"has symbols that the model does not know: {visible(foreign)}" if foreign else ""
