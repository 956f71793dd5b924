"""One registry for everything that has a name: datasets, models, metrics."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from captchabench.errors import InputError

T = TypeVar("T")
U = TypeVar("U")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that suggests the name in `known` closest to `name`, or lists them all if none is close."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{matches[0]}'?" if matches else f"known: {', '.join(known)}"


class Registry(Generic[T]):
    """A mapping from names to objects of one kind.

    With a `package`, every module directly in it registers one entry under the module's name, except the modules in
    `exclude`. A module is imported on first use: listing names imports nothing, and a model that does not need torch
    does not load it. Subpackages hold shared code and are not entries.
    """

    def __init__(self, noun: str, package: str = "", exclude: Iterable[str] = ("base",)) -> None:
        self.noun = noun
        self._package = package
        self._excluded = frozenset(exclude)
        self._entries: dict[str, T] = {}

    def register(self, item: U) -> U:
        """Class decorator: register a class under the name of its module. Raises InputError if the name is taken."""
        self.add(item.__module__.rpartition(".")[2], item)  # type: ignore[arg-type]  # the type system cannot express: a subclass of T
        return item

    def add(self, name: str, item: T) -> T:
        """Register `item` under `name` and return it. Raises InputError if the name is taken."""
        if name in self._entries:
            raise InputError(f"{self.noun} '{name}' is registered twice")
        self._entries[name] = item
        return item

    def names(self) -> list[str]:
        """All names, sorted. Imports no module."""
        return sorted(self._entries.keys() | self._modules())

    def __getitem__(self, name: str) -> T:
        """The object registered as `name`. Raises InputError, which suggests the closest name, if there is none."""
        if name not in self._entries and name in self._modules():
            importlib.import_module(f"{self._package}.{name}")
            if name not in self._entries:
                path = f"{self._package.replace('.', '/')}/{name}.py"
                raise InputError(f"{path} registers no {self.noun} called '{name}'")
        if name not in self._entries:
            raise InputError(f"no {self.noun} called '{name}'; {did_you_mean(name, self.names())}")
        return self._entries[name]

    def _modules(self) -> set[str]:
        if not self._package:
            return set()
        folder = Path(str(importlib.import_module(self._package).__file__)).parent
        return {m.name for m in pkgutil.iter_modules([str(folder)]) if not m.ispkg} - self._excluded
