"""The datasets, one file each. `DATASETS[key]` is the declaration of one."""

from captchabench.datasets.base import Dataset
from captchabench.registry import Registry

DATASETS: Registry[Dataset] = Registry("dataset", __name__)
UNION = "union"


def stage_name(stage: str, dataset: str) -> str:
    """The name of the DVC stage for `dataset`. Grids of tiles have separate stages."""
    grid = dataset in DATASETS.names() and DATASETS[dataset].task == "grid"
    return f"{stage}-tiles@{dataset}" if grid else f"{stage}@{dataset}"
