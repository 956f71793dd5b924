"""The cells of the grid, and how they are called in file names, stage names and error messages."""

from captchabench.config import GridParams
from captchabench.datasets import UNION, stage_name
from captchabench.errors import InputError


def expected_cells(grid: GridParams) -> list[tuple[str, str, int]]:
    """The cells that the parameters demand, as (dataset, model, fold), sorted.

    Raises InputError where a list is empty or names something twice: a fold that counts twice would
    predict its images twice.
    """
    for key in ("datasets", "models", "folds"):
        if not getattr(grid, key):
            raise InputError(f"params.yaml: grid.{key}: is empty; name at least one")
    lists = {key: getattr(grid, key) for key in ("datasets", "models", "union", "folds")}
    lists |= {f"tiles.{key}": getattr(grid.tiles, key) for key in ("datasets", "models")}
    for key, values in lists.items():
        twice = sorted({str(v) for v in values if values.count(v) > 1})
        if twice:
            raise InputError(f"params.yaml: grid.{key}: names {', '.join(twice)} twice; name it once")
    cells = {(d, m, f) for d in grid.datasets for m in grid.models for f in grid.folds}
    cells |= {(d, m, f) for d in grid.tiles.datasets for m in grid.tiles.models for f in grid.folds}
    return sorted(cells | {(UNION, m, f) for m in grid.union for f in grid.folds})


def cell_name(dataset: str, model: str, fold: int) -> str:
    """The name of a cell: D-M-F."""
    return f"{dataset}-{model}-{fold}"


def repro_command(stage: str, cell: str) -> str:
    """The command that makes the output of `stage` for the cell called `cell`."""
    return f"`dvc repro {cell_stage(stage, cell)}`"


def cell_stage(stage: str, cell: str) -> str:
    """What DVC calls `stage`, which runs once a cell, for the cell called `cell`."""
    dataset, _, rest = cell.partition("-")
    if dataset == UNION:
        stage = f"{stage}-{UNION}"
    return f"{stage_name(stage, dataset)}-{rest}"
