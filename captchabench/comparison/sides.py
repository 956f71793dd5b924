"""One side of a comparison: the scores of a commit, the workspace or a model, and access to its predictions."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import polars as pl

from captchabench.cells.cell import Cell
from captchabench.comparison.retraining import Metric, Noise
from captchabench.datasets import UNION
from captchabench.errors import InputError
from captchabench.registry import did_you_mean

# (dataset, model), as in the leaderboard; `union/member` counts as a dataset.
Key = tuple[str, str]


class PredictionsMissing(Exception):
    """Predictions are unavailable. The message is a clause that says whose and why."""


@dataclass(frozen=True)
class Sums:
    """Images of one fold, those of them read correctly, edits and characters."""

    n: int
    exact: int
    edits: int
    characters: int


@dataclass(frozen=True)
class Result:
    """One row of the leaderboard as sums over its folds, and all that must be equal for a fair comparison.

    cells: the pooled cells, by fold. images: for each cell, a digest of its held-out images and labels. n: number of
    images. exact: number of images read correctly. edits, characters: sums. normalisation: for each dataset that images
    came from, the parameters of `normalize`. class_names: symbol -> class, for grids. by_fold: the sums of each fold,
    in the order of `cells`. arithmetic: what can change numbers without a change of the program, by name; empty where
    it was not recorded. noise: of retraining, for "exact" and "cer"; empty where it was not measured with the
    parameters of this result.
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
    by_fold: tuple[Sums, ...] = ()
    arithmetic: Mapping[str, str] = field(default_factory=dict)
    noise: Mapping[Metric, Noise] = field(default_factory=dict)

    @property
    def exact_share(self) -> float:
        """Share of images whose text is entirely correct."""
        return self.exact / self.n

    @property
    def cer(self) -> float:
        """Edits per character of the labels."""
        return self.edits / self.characters


@dataclass(frozen=True)
class Side:
    """One side of a comparison. name: as the user gave it. commit: its full hash; None for the files on disk.

    predictions: returns the predictions of a cell, with columns dataset (of the image), sample_id, label and
    prediction; raises PredictionsMissing. packages: name -> version in requirements.lock, empty if there is none.
    behind: what was changed after the results were made, such as files of the program; empty if they are up to date.
    """

    name: str
    commit: str | None
    results: Mapping[Key, Result]
    predictions: Callable[[Cell], pl.DataFrame]
    packages: Mapping[str, str] = field(default_factory=dict)
    behind: tuple[str, ...] = ()

    def of_model(self, model: str) -> "Side":
        """Only the results of one model, under an empty model name. Raises InputError if it has none."""
        models = {name for _, name in self.results}
        if model not in models:
            raise InputError(f"{self.name}: has no results of a model '{model}'; {did_you_mean(model, models)}")
        results = {(dataset, ""): result for (dataset, name), result in self.results.items() if name == model}
        return replace(self, name=model, results=results)


def pool(
    prefix: str,
    cells: Mapping[Cell, bytes],
    normalisation: Mapping[str, Mapping[str, Any]],
    arithmetic: Mapping[Cell, Mapping[str, str]] = MappingProxyType({}),
    noise: Mapping[Key, Mapping[Metric, Noise]] = MappingProxyType({}),
) -> dict[Key, Result]:
    """Sum the cells of each row over its folds. cells: files that any version of `write_cell` wrote.

    Only what a comparison needs is read, so that cells of older and newer versions of this program can be used.
    prefix: start of error messages. arithmetic, noise: see Result, where they are known. Raises InputError for a file
    that is not a cell, and for folds of one row that differ in source or dataset version.
    """
    by_row: dict[Key, list[Result]] = defaultdict(list)
    for cell, text in sorted(cells.items()):
        try:
            scored = json.loads(text)
            members = [name.partition("/")[2] for name in scored["parts"] if "/" in name] or [scored["dataset"]]
            for name, part in scored["parts"].items():
                sources = members if name == UNION else [name.rpartition("/")[2]]
                sums = Sums(**{count: int(part[count]) for count in ("n", "exact", "edits", "characters")})
                by_row[name, cell.model].append(
                    Result(
                        cells=(cell,),
                        source=str(scored["source"]),
                        version=int(scored["version"]),
                        images=(str(part["samples"]),),
                        **vars(sums),
                        normalisation={member: normalisation.get(member, {}) for member in sorted(sources)},
                        class_names=dict(scored.get("class_names", {})),
                        by_fold=(sums,),
                        arithmetic=_arithmetic(scored, arithmetic.get(cell, {})),
                        noise=noise.get((name, cell.model), {}),
                    )
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{prefix}: metrics/cells/{cell}.json: is not one of our cells ({error!r})") from None
    return {key: _sum(prefix, key, folds) for key, folds in sorted(by_row.items())}


def _sum(prefix: str, key: Key, folds: list[Result]) -> Result:
    for trait in ("source", "version"):
        values = {getattr(fold, trait) for fold in folds}
        if len(values) > 1:
            listed = ", ".join(map(str, sorted(values)))
            raise InputError(f"{prefix}: folds of {key[0]}, {key[1]} differ in {trait} ({listed}); run `dvc repro`")
    sums = {count: sum(getattr(fold, count) for fold in folds) for count in ("n", "exact", "edits", "characters")}
    return replace(
        folds[0],
        cells=tuple(cell for fold in folds for cell in fold.cells),
        images=tuple(digest for fold in folds for digest in fold.images),
        by_fold=tuple(sums for fold in folds for sums in fold.by_fold),
        arithmetic=_joined([fold.arithmetic for fold in folds]),
        **sums,
    )


def _arithmetic(scored: Mapping[str, Any], recorded: Mapping[str, str]) -> dict[str, str]:
    """The precision, which cells have held for longer than there is a table of arithmetic, and all that is recorded."""
    precision = {"precision": str(scored["precision"])} if scored.get("precision") else {}
    return precision | dict(recorded)


def _joined(records: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The arithmetic of several folds: the values of each name that occur, between slashes."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: " / ".join(sorted({record[name] for record in records if name in record})) for name in names}
