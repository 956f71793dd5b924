"""All that the page shows, in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from captchabench.config import Params
from captchabench.datasets import UNION
from captchabench.report.inputs import Cleaning
from captchabench.report.pictures import Misreading
from captchabench.report.tables import Ranking, rankings, readers, source_note
from captchabench.storage.tables import Table


@dataclass(frozen=True)
class Findings:
    """The inputs of the page, read and checked.

    board: the leaderboard. tables: what the sections ask for. audit: metrics/data/audit.json. misreadings:
    the errors of the gallery. pictures: sample_id -> data URI, for the gallery and the suspects.
    params_text: params.yaml as written.
    """

    board: pl.DataFrame
    tables: Mapping[Table, pl.DataFrame]
    cleaning: Sequence[Cleaning]
    audit: Mapping[str, Any]
    misreadings: Sequence[Misreading]
    pictures: Mapping[str, str]
    params: Params
    params_text: str

    @cached_property
    def ranked(self) -> list[Ranking]:
        """The leaderboard, a ranking a dataset."""
        return rankings(self.board)

    @cached_property
    def members(self) -> list[Ranking]:
        """The rankings of single datasets, without the merged one."""
        return [ranking for ranking in self.ranked if ranking.dataset != UNION]

    @cached_property
    def readers(self) -> list[str]:
        """Every reader, in the order in which colours are given out: models as in params.yaml, then the rest."""
        found = readers(self.board)["reader"].unique().sort().to_list()
        return sorted(found, key=lambda reader: (self._place(reader), reader))

    @cached_property
    def source(self) -> str:
        """Where the images came from; where datasets differ in that, each with its source in words."""
        of: dict[str, list[str]] = {}
        for ranking in self.ranked:
            of.setdefault(ranking.source, []).append(ranking.dataset)
        if len(of) == 1:
            return next(iter(of))
        return "; ".join(f"{', '.join(datasets)}: {source_note(source)}" for source, datasets in of.items())

    @property
    def grids(self) -> list[Ranking]:
        """The rankings of grids of tiles."""
        return [ranking for ranking in self.members if ranking.grids]

    def shape(self, dataset: str) -> str:
        """Width and height of the images of `dataset`, as CSS writes an aspect ratio."""
        size = self.params.tiles if dataset in self.params.matrix.tiles.datasets else self.params.normalize
        return f"{size.width} / {size.height}"

    def _place(self, reader: str) -> int:
        models = self.params.matrix.models
        return models.index(reader) if reader in models else len(models)
