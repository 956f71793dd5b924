"""How cells are called in file names, stage names and error messages."""

from captchabench.datasets import UNION, stage_name


def cell_name(dataset: str, model: str, fold: int) -> str:
    """The name of a cell: D-M-F."""
    return f"{dataset}-{model}-{fold}"


def repro_command(stage: str, cell: str) -> str:
    """The command that makes the output of `stage` for the cell called `cell`."""
    return f"`dvc repro {cell_stage(stage, cell)}`"


def cell_stage(stage: str, cell: str) -> str:
    """What DVC calls `stage` for the cell called `cell`."""
    dataset, _, rest = cell.partition("-")
    if dataset == UNION:
        stage = f"{stage}-{UNION}"
    return f"{stage_name(stage, dataset)}-{rest}"
