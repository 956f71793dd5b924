"""One side of a comparison: what a commit, the workspace or a model scored, and how to get at what it read."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from captchabench.cells.cell import Cell
from captchabench.datasets import UNION
from captchabench.errors import InputError
from captchabench.registry import did_you_mean

# (dataset, model), as in the leaderboard: `union/member` is a dataset of its own.
Key = tuple[str, str]


class PredictionsMissing(Exception):
    """Predictions that cannot be had. The message is a clause that says whose and why."""


@dataclass(frozen=True)
class Result:
    """One row of the leaderboard as sums over its folds, and all that must be alike for a fair comparison.

    cells: the cells that are pooled here, by fold. images: a digest of each cell's held-out images and their
    labels. n, exact: images, and those read right; edits, characters: summed. normalisation: for each dataset
    that images came from, the parameters they were normalised with. class_names: of grids, by symbol.
    """

    cells: tuple[Cell, ...]
    source: str
    version: int
    images: tuple[str, ...]
    n: int
    exact: int
    edits: int
    characters: int
    normalisation: Mapping[str, Mapping[str, Any]]
    class_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def exact_share(self) -> float:
        """Share of images read entirely right."""
        return self.exact / self.n

    @property
    def cer(self) -> float:
        """Edits per character of the labels."""
        return self.edits / self.characters


@dataclass(frozen=True)
class Side:
    """What is compared. name: as the user gave it; commit: its full hash, None for files as they lie on disk.

    predictions: of a cell, columns dataset (of the image), sample_id, label and prediction; raises
    PredictionsMissing. packages: name -> version in requirements.lock, empty where there is none.
    """

    name: str
    commit: str | None
    results: Mapping[Key, Result]
    predictions: Callable[[Cell], pl.DataFrame]
    packages: Mapping[str, str] = field(default_factory=dict)

    def of_model(self, model: str) -> "Side":
        """The results of one model alone, under an empty model name. Raises InputError if it has none."""
        models = {name for _, name in self.results}
        if model not in models:
            raise InputError(f"{self.name}: has no results of a model '{model}'; {did_you_mean(model, models)}")
        own = {(dataset, ""): result for (dataset, name), result in self.results.items() if name == model}
        return replace(self, name=model, results=own)


def pool(where: str, cells: Mapping[Cell, bytes], normalisation: Mapping[str, Mapping[str, Any]]) -> dict[Key, Result]:
    """The results that cells, as `write_cell` wrote them at any time, add up to.

    Only what a comparison needs is read, so that cells of older and newer versions of this program do.
    `where` prefixes messages. Raises InputError for a file that is not a cell, and for folds of one row that
    differ in source or dataset version.
    """
    found: dict[Key, list[Result]] = defaultdict(list)
    for cell, text in sorted(cells.items()):
        try:
            scored = json.loads(text)
            members = [name.partition("/")[2] for name in scored["parts"] if "/" in name] or [scored["dataset"]]
            for name, part in scored["parts"].items():
                own = members if name == UNION else [name.rpartition("/")[2]]
                found[name, cell.model].append(
                    Result(
                        cells=(cell,),
                        source=str(scored["source"]),
                        version=int(scored["version"]),
                        images=(str(part["samples"]),),
                        **{count: int(part[count]) for count in ("n", "exact", "edits", "characters")},
                        normalisation={member: normalisation.get(member, {}) for member in sorted(own)},
                        class_names=dict(scored.get("class_names", {})),
                    )
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: metrics/cells/{cell}.json: is not one of our cells ({error!r})") from None
    return {key: _sum(where, key, folds) for key, folds in sorted(found.items())}


def _sum(where: str, key: Key, folds: list[Result]) -> Result:
    for trait in ("source", "version"):
        values = {getattr(fold, trait) for fold in folds}
        if len(values) > 1:
            listed = ", ".join(map(str, sorted(values)))
            raise InputError(f"{where}: folds of {key[0]}, {key[1]} differ in {trait} ({listed}); run `dvc repro`")
    sums = {count: sum(getattr(fold, count) for fold in folds) for count in ("n", "exact", "edits", "characters")}
    return replace(
        folds[0],
        cells=tuple(cell for fold in folds for cell in fold.cells),
        images=tuple(digest for fold in folds for digest in fold.images),
        **sums,
    )
