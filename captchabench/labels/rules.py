"""Every rule that `--labels` takes, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from captchabench.errors import InputError
from captchabench.labels import names
from captchabench.registry import did_you_mean


@dataclass(frozen=True)
class Rule:
    """Where a label stands. of_path: the label in the path of one image; None if the rule needs the whole set."""

    description: str
    of_path: Callable[[str], str] | None = None


def _splits() -> dict[str, Rule]:
    """The rules that split the stem, per separator."""
    rules = {}
    for word, separator in names.SEPARATORS.items():
        shown = "space" if separator == " " else f"`{separator}`"
        for place, where, of_path in (
            ("before-first", "up to the first", names.before_first),
            ("before-last", "up to the last", names.before_last),
            ("after-last", "after the last", names.after_last),
        ):
            rules[f"{place}-{word}"] = Rule(f"the stem {where} {shown}", partial(of_path, separator=separator))
    return rules


# Of rules that read all names alike, the first is taken.
RULES: dict[str, Rule] = {
    "stem": Rule("the file's name without its suffix, and without the mark of a copy, such as ` (1)`", names.stem),
    "after-number": Rule("the stem without the number at its start: `007_abc12.png`", names.after_number),
    **_splits(),
    "folder": Rule("the name of the folder that holds the image: tiles by class, or one text per folder", names.folder),
    "file": Rule("a label file beside the images: CSV, TSV, JSON, JSONL, path<TAB>label; or FILE, FILE:COLUMN"),
    "text-files": Rule("a text file per image that holds its label: `7.png` and `7.txt` or `7.gt.txt`"),
    "lines": Rule("a file with one label per line, in the order of the images' names as texts: 1, 10, 2"),
    "lines-natural": Rule("a file with one label per line, in the order of the numbers in the names: 1, 2, 10"),
}
OF_NAME = tuple(name for name, rule in RULES.items() if rule.of_path and name != "folder")


def require_rule(name: str, option: str = "--labels") -> Rule:
    """The rule called `name`. Raises InputError, which suggests the closest name, if there is none.

    option: what the rule is given by.
    """
    if name not in RULES:
        raise InputError(f"{option.removesuffix(':')}: no rule is called '{name}'; {did_you_mean(name, RULES)}")
    return RULES[name]
