"""The datasets: one file each. `DATASETS[key]` gives the declaration."""

from captchabench.datasets.base import Dataset
from captchabench.registry import Registry

DATASETS: Registry[Dataset] = Registry("dataset", __name__)
UNION = "union"


def stage_name(stage: str, dataset: str) -> str:
    """The stage of DVC that makes something of `dataset`. Grids of tiles have stages of their own."""
    grid = dataset in DATASETS.names() and DATASETS[dataset].task == "grid"
    return f"{stage}-tiles@{dataset}" if grid else f"{stage}@{dataset}"
