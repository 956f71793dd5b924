"""The declaration of a section of the page, and the list of all sections."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.storage.tables import Table


@dataclass(frozen=True)
class Section:
    """One section of the page. Each module of this package declares one as SECTION.

    position: sections are sorted by it. name: the id of its HTML element. link: its text in the bar at the top.
    write: turns the findings into HTML and adds its charts to the figures. tables: the tables that it reads.
    """

    position: int
    name: str
    link: str
    heading: str
    write: Callable[[Findings, Figures], str]
    tables: tuple[Table, ...] = ()


def sections() -> list[Section]:
    """All sections, in the order of the page."""
    package = __name__.rpartition(".")[0]
    folder = importlib.import_module(package).__path__
    names = [module.name for module in pkgutil.iter_modules(folder) if module.name != "base"]
    declared = [importlib.import_module(f"{package}.{name}").SECTION for name in names]
    return sorted(declared, key=lambda section: section.position)
