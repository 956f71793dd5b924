"""A cell of the grid: dataset x model x fold, and where its files are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from captchabench.config import Params
from captchabench.data.shards import Samples, read_samples, read_union
from captchabench.datasets import UNION
from captchabench.errors import InputError
from captchabench.registry import did_you_mean

SHARDS = Path("data/shards")


@dataclass(frozen=True)
class Cell:
    """One dataset (or `union`), one model, one held-out fold."""

    dataset: str
    model: str
    fold: int

    @classmethod
    def parse(cls, words: tuple[str, ...], params: Params) -> Self:
        """The cell that three command-line words name. Raises InputError with the nearest name."""
        if len(words) != 3 or not words[2].isdigit():
            raise InputError(f"give dataset, model and fold, such as: fournierp crnn 0; got: {' '.join(words)}")
        dataset, model, fold = words
        known = [*params.grid.all_datasets, UNION]
        if dataset not in known:
            raise InputError(f"no dataset called '{dataset}' in grid; {did_you_mean(dataset, known)}")
        if model not in params.models:
            raise InputError(f"params.yaml: models.{model}: missing; {did_you_mean(model, params.models)}")
        return cls(dataset, model, int(fold))

    def __str__(self) -> str:
        return f"{self.dataset}-{self.model}-{self.fold}"

    @property
    def weights(self) -> Path:
        """The folder of the trained model."""
        return Path("data/models") / str(self)

    @property
    def predictions(self) -> Path:
        """What it read of the held-out fold."""
        return Path("data/predictions") / f"{self}.parquet"

    @property
    def curve(self) -> Path:
        """The learning curve."""
        return Path("metrics/curves") / f"{self}.csv"

    def timing(self, stage: str) -> Path:
        """How long `stage` took: kept apart from the metrics, which are the same in every run."""
        return Path("data/timings") / f"{self}.{stage}.json"

    def samples(self, params: Params) -> Samples:
        """All folds of the cell's dataset; for `union`, of all datasets of the grid."""
        if self.dataset == UNION:
            return read_union([SHARDS / member for member in params.grid.datasets], UNION)
        return read_samples(SHARDS / self.dataset)
