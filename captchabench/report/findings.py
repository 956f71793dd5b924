"""All inputs of the page as one object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from captchabench.config import Params
from captchabench.datasets import UNION
from captchabench.report.inputs import Cleaning
from captchabench.report.pictures import Misreading
from captchabench.report.runs import Run
from captchabench.report.tables import Ranking, rankings, readers, source_note
from captchabench.storage.tables import Table


@dataclass(frozen=True)
class Findings:
    """The inputs of the page, read and checked.

    board: the leaderboard. tables: those that the sections declare. cleaning: how each dataset was cleaned.
    audit: metrics/data/audit.json. misreadings: the images of the gallery. pictures: sample_id -> data URI, for
    the gallery and the suspects. params_text: the text of params.yaml. runs, published: what results/ holds.
    """

    board: pl.DataFrame
    tables: Mapping[Table, pl.DataFrame]
    cleaning: Sequence[Cleaning]
    audit: Mapping[str, Any]
    misreadings: Sequence[Misreading]
    pictures: Mapping[str, str]
    params: Params
    params_text: str
    runs: Sequence[Run]
    published: pl.DataFrame

    @cached_property
    def ranked(self) -> list[Ranking]:
        """The leaderboard as one ranking per dataset."""
        return rankings(self.board)

    @cached_property
    def members(self) -> list[Ranking]:
        """The rankings of single datasets, without that of union."""
        return [ranking for ranking in self.ranked if ranking.dataset != UNION]

    @cached_property
    def readers(self) -> list[str]:
        """All readers in the order of their colours: models as in params.yaml, then those trained on union."""
        names = readers(self.board)["reader"].unique().to_list()
        return sorted(names, key=lambda reader: (self._position(reader), reader))

    @cached_property
    def source(self) -> str:
        """The source of the images. If datasets differ, each source is listed with its datasets."""
        by_source: dict[str, list[str]] = {}
        for ranking in self.ranked:
            by_source.setdefault(ranking.source, []).append(ranking.dataset)
        if len(by_source) == 1:
            return next(iter(by_source))
        return "; ".join(f"{', '.join(datasets)}: {source_note(source)}" for source, datasets in by_source.items())

    @property
    def grids(self) -> list[Ranking]:
        """The rankings of grids of tiles."""
        return [ranking for ranking in self.members if ranking.grids]

    def shape(self, dataset: str) -> str:
        """The aspect ratio of the images of `dataset`, in the syntax of CSS."""
        size = self.params.tiles if dataset in self.params.matrix.tiles.datasets else self.params.normalize
        return f"{size.width} / {size.height}"

    def _position(self, reader: str) -> int:
        models = self.params.matrix.models
        return models.index(reader) if reader in models else len(models)
