"""The datasets: one file each. `DATASETS[key]` gives the declaration."""

from captchabench.datasets.base import Dataset
from captchabench.registry import Registry

DATASETS: Registry[Dataset] = Registry("dataset", __name__)
UNION = "union"
