"""The cells of the benchmark (dataset x model x held-out fold), and the files named after them."""

from pathlib import Path
from typing import NamedTuple, Self

from captchabench.config import MatrixParams, Params
from captchabench.datasets import UNION, stage_name
from captchabench.errors import InputError
from captchabench.registry import did_you_mean

SHARDS = Path("data/shards")


class Cell(NamedTuple):
    """One dataset (or `union`), one model, one held-out fold."""

    dataset: str
    model: str
    fold: int

    @classmethod
    def from_arguments(cls, arguments: tuple[str, ...], params: Params) -> Self:
        """The cell that three command-line arguments name. Raises InputError that suggests the nearest name."""
        if len(arguments) != 3 or not arguments[2].isdigit():
            raise InputError(f"give dataset, model and fold, such as: fournierp crnn 0; got: {' '.join(arguments)}")
        dataset, model, fold = arguments
        known = [*params.matrix.all_datasets, UNION]
        if dataset not in known:
            raise InputError(f"no dataset called '{dataset}' in matrix; {did_you_mean(dataset, known)}")
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
        """What the model read of the held-out fold."""
        return Path("data/predictions") / f"{self}.parquet"

    @property
    def curve(self) -> Path:
        """The learning curve."""
        return Path("metrics/curves") / f"{self}.csv"

    def timing(self, stage: str) -> Path:
        """How long `stage` took. Not among the metrics, which are the same in every run."""
        return Path("data/timings") / f"{self}.{stage}.json"

    def command(self, stage: str) -> str:
        """The command that runs `stage`, a stage with one run per cell, for this cell."""
        return f"`dvc repro {stage_of(stage, str(self))}`"


def stage_of(stage: str, cell: str) -> str:
    """DVC's name of `stage`, a stage with one run per cell, for the cell called `cell` ("vtu-crnn-0")."""
    dataset, _, rest = cell.partition("-")
    if dataset == UNION:
        stage = f"{stage}-{UNION}"
    return f"{stage_name(stage, dataset)}-{rest}"


def expected_cells(matrix: MatrixParams) -> list[Cell]:
    """The cells that the parameters ask for, sorted.

    Raises InputError if a list is empty or has duplicates: a fold named twice would count its images twice. Where there
    are cells of tiles, those of texts may be left out altogether. `models` may be empty beside `union`.
    """
    texts = matrix.datasets or matrix.models or matrix.union
    tiles = matrix.tiles.datasets and matrix.tiles.models
    needed = {"datasets": texts or not tiles, "models": (texts or not tiles) and not matrix.union, "folds": True}
    for key, is_needed in needed.items():
        if is_needed and not getattr(matrix, key):
            raise InputError(f"params.yaml: matrix.{key}: is empty; name at least one")
    lists = {key: getattr(matrix, key) for key in ("datasets", "models", "union", "folds")}
    lists |= {f"tiles.{key}": getattr(matrix.tiles, key) for key in ("datasets", "models")}
    for key, values in lists.items():
        twice = sorted({str(v) for v in values if values.count(v) > 1})
        if twice:
            raise InputError(f"params.yaml: matrix.{key}: names {', '.join(twice)} twice; name it once")
    return sorted(cells_of(matrix))


def cells_of(matrix: MatrixParams) -> set[Cell]:
    """The cells that the parameters ask for. The parameters are not checked."""
    cells = {Cell(d, m, f) for d in matrix.datasets for m in matrix.models for f in matrix.folds}
    cells |= {Cell(d, m, f) for d in matrix.tiles.datasets for m in matrix.tiles.models for f in matrix.folds}
    return cells | {Cell(UNION, m, f) for m in matrix.union for f in matrix.folds}
