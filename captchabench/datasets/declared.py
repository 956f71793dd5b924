"""Datasets of the user's own images, which params.yaml declares by their path."""

import re
from pathlib import Path
from unicodedata import normalize

from captchabench.alphabet import Alphabet, fold_case
from captchabench.config import PARAMS, Params, load_params
from captchabench.datasets import DATASETS, UNION
from captchabench.datasets.base import Dataset, Task, class_name, whole_stem
from captchabench.errors import InputError, visible
from captchabench.registry import did_you_mean

AUTO = "auto"
# Names of cells, files and DVC's stages are made of it, with hyphens in between.
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


def declare(
    key: str,
    path: Path,
    rule: str = AUTO,
    *,
    alphabet: str = "",
    case_folded: bool = False,
    min_length: int = 0,
    max_length: int = 0,
    licence: str = "",
    task: Task = "text",
) -> Dataset:
    """The dataset of the images at `path`, without a look at them.

    rule: where the labels are, as `labels.find_labels` takes it; it infers "auto". case_folded: whether labels do not
    tell upper from lower case; they are then used in lower case. Raises InputError for an alphabet with a symbol twice.
    """
    symbols = normalize("NFC", alphabet)
    if case_folded:
        symbols = "".join(dict.fromkeys(fold_case(symbols)))
    text = fold_case if case_folded else whole_stem
    return Dataset(
        key=key,
        licence=licence or "not stated",
        symbols=Alphabet(symbols).symbols if symbols else "",
        min_length=min_length,
        max_length=max_length,
        path=str(path),
        rule="" if rule == AUTO else rule,
        label_of=class_name if task == "grid" else text,
        task=task,
    )


def own_datasets() -> list[Dataset]:
    """The datasets that params.yaml declares, if there is such a file. Raises InputError if it is wrong."""
    if not PARAMS.is_file():
        return []
    params = load_params()
    return [find_dataset(name, params) for name, section in params.datasets.items() if section.path]


def find_dataset(name: str, params: Params) -> Dataset:
    """The dataset called `name`: one with a file of its own, or one that `params` declare by its path.

    Raises InputError if there is no such dataset, or if its declaration is wrong.
    """
    section = params.datasets.get(name)
    at = f"{PARAMS}: datasets.{visible(name, 60)}"
    if section is None or not section.path:
        if name in DATASETS.names():
            return DATASETS[name]
        hint = did_you_mean(name, [*DATASETS.names(), *(key for key, other in params.datasets.items() if other.path)])
        if section is not None:
            raise InputError(f"{at}: is no known dataset; give its path if the images are your own; {hint}")
        raise InputError(f"no dataset called '{name}'; {hint}")
    if name in DATASETS.names() or name == UNION:
        raise InputError(f"{at}.path: '{name}' is the name of another dataset; give your images another name")
    if not _NAME.fullmatch(name):
        raise InputError(f"{at}: a name takes up to 40 letters without accents, digits and _; choose another")
    path, downloads = Path(section.path), Path(params.data.downloads)
    if not path.absolute().is_relative_to(downloads.absolute()) or ".." in path.parts:
        raise InputError(
            f"{at}.path: {path} is not in data.downloads ({downloads}), where DVC sees changes; move it there"
        )
    tiles = name in params.matrix.tiles.datasets
    for key in ("alphabet", "case_folded", "min_length", "max_length"):
        if tiles and getattr(section, key):
            raise InputError(f"{at}.{key}: is for texts, and matrix.tiles.datasets names '{name}'; remove it")
    try:
        return declare(
            name,
            path,
            section.labels,
            alphabet=section.alphabet,
            case_folded=section.case_folded,
            min_length=section.min_length,
            max_length=section.max_length,
            licence=section.licence,
            task="grid" if tiles else "text",
        )
    except InputError as error:
        raise InputError(f"{at}.alphabet: {error}") from None
