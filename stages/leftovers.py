"""Removes outputs of cells and datasets that params.yaml no longer names.

DVC removes the outputs of a stage before it runs that stage, but not those of a stage that is gone from dvc.yaml. If
they stayed in a folder that a later stage depends on, they would be part of its dependency here and missing in a clone.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from captchabench.cells.cell import cells_of
from captchabench.config import MatrixParams, load_params
from captchabench.datasets import UNION

# (folder, stage, suffix): the stage writes one file or folder per cell, called D-M-F and the suffix.
OUTPUTS_BY_CELL = (
    ("data/models", "train", ""),
    ("data/predictions", "predict", ".parquet"),
    ("data/timings", "train", ".train.json"),
    ("data/timings", "predict", ".predict.json"),
    ("metrics/curves", "train", ".csv"),
)
# (folder, suffix): `normalize` writes one file or folder per dataset, called D and the suffix.
OUTPUTS_BY_DATASET = (("data/shards", ""), ("data/rejects", ".csv"), ("metrics/data", ".json"))


def remove_leftovers() -> None:
    """Remove outputs of cells and datasets that `matrix` in params.yaml does not name, if dvc.lock lists their stage.

    DVC's cache keeps them: `dvc checkout` restores them for an older dvc.lock. Raises InputError for bad parameters.
    """
    lock = Path("dvc.lock")
    locked = lock.read_text(encoding="utf-8") if lock.exists() else ""
    for path, stage, item in _unexpected_outputs(load_params().matrix):
        if any(f"  {stage}{kind}@{item}:\n" in locked for kind in ("", "-tiles", f"-{UNION}")):
            if path.is_dir():
                # Several stages may start at once: files that another one has removed are no error.
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _unexpected_outputs(matrix: MatrixParams) -> Iterator[tuple[Path, str, str]]:
    """Outputs that belong to no cell or dataset of `matrix`, each with the stage that wrote it and its cell or dataset.

    The stage is named without "-tiles" and "-union": what an item was is not known any more.
    """
    cells = {str(cell) for cell in cells_of(matrix)}
    for folder, stage, suffix in OUTPUTS_BY_CELL:
        for path in Path(folder).glob(f"[!.]*{suffix}"):
            cell = path.name.removesuffix(suffix)
            if cell not in cells:
                yield path, stage, cell
    for folder, suffix in OUTPUTS_BY_DATASET:
        for path in Path(folder).glob(f"[!.]*{suffix}"):
            dataset = path.name.removesuffix(suffix)
            if dataset not in matrix.all_datasets:
                yield path, "normalize", dataset
