"""What the stages of dropped cells and datasets left in folders that later stages depend on as a whole.

DVC removes the outputs of a stage before it runs it, not those of a stage that params.yaml no longer asks for. They
would count as part of the folder here, and be missing in every clone.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from captchabench.cells.cell import cells_of, stage_of
from captchabench.config import MatrixParams
from captchabench.datasets import stage_name


def remove_leftovers(matrix: MatrixParams) -> None:
    """Remove outputs of cells and datasets that `matrix` does not name, if dvc.lock says that a stage made them.

    DVC's cache keeps them: `dvc checkout` brings them back with an older dvc.lock.
    """
    lock = Path("dvc.lock")
    locked = lock.read_text(encoding="utf-8") if lock.exists() else ""
    for path, stage in _not_asked_for(matrix):
        if f"  {stage}:\n" in locked:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _not_asked_for(matrix: MatrixParams) -> Iterator[tuple[Path, str]]:
    """Outputs by cell and by dataset that no expected one explains, each with the stage that would have made it."""
    cells = {str(cell) for cell in cells_of(matrix)}
    for folder, stage, suffix in (
        ("data/models", "train", ""),
        ("data/predictions", "predict", ".parquet"),
        ("data/timings", "train", ".train.json"),
        ("data/timings", "predict", ".predict.json"),
        ("metrics/curves", "train", ".csv"),
    ):
        for path in Path(folder).glob(f"[!.]*{suffix}"):
            cell = path.name.removesuffix(suffix)
            if cell not in cells:
                yield path, stage_of(stage, cell)
    for folder, suffix in (("data/shards", ""), ("data/rejects", ".csv"), ("metrics/data", ".json")):
        for path in Path(folder).glob(f"[!.]*{suffix}"):
            dataset = path.name.removesuffix(suffix)
            if dataset not in matrix.all_datasets:
                yield path, stage_name("normalize", dataset)
