"""The datasets, one file each. `DATASETS[key]` is the declaration of one.

Those of the user's own images are declared in params.yaml; `declared.find_dataset` finds both kinds.
"""

from captchabench.config import PARAMS, load_params
from captchabench.datasets.base import Dataset
from captchabench.registry import Registry

DATASETS: Registry[Dataset] = Registry("dataset", __name__, exclude=("base", "declared"))
UNION = "union"


def stage_name(stage: str, dataset: str) -> str:
    """The name of the DVC stage for `dataset`. Grids of tiles have separate stages.

    Whether images of the user's own are tiles is read from params.yaml in the working directory, if there is one.
    """
    if dataset in DATASETS.names():
        grid = DATASETS[dataset].task == "grid"
    else:
        grid = PARAMS.is_file() and dataset in load_params().matrix.tiles.datasets
    return f"{stage}-tiles@{dataset}" if grid else f"{stage}@{dataset}"
