"""What a section of the page is, and which there are."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.storage.tables import Table


@dataclass(frozen=True)
class Section:
    """One section: a file beside this one that names it SECTION.

    place: sections are sorted by it. name: the id of its element. word: its link in the bar. write: findings in, HTML
    out; charts are entered into the page's figures. tables: those that it reads.
    """

    place: int
    name: str
    word: str
    heading: str
    write: Callable[[Findings, Figures], str]
    tables: tuple[Table, ...] = ()


def sections() -> list[Section]:
    """All sections, in the page's order."""
    package = __name__.rpartition(".")[0]
    folder = importlib.import_module(package).__path__
    names = [module.name for module in pkgutil.iter_modules(folder) if module.name != "base"]
    found = [importlib.import_module(f"{package}.{name}").SECTION for name in names]
    return sorted(found, key=lambda section: section.place)
