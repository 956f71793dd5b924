"""noise [D M]: retrain each cell of the first fold with other seeds -> metrics/noise.csv; opt-in, no stage of dvc.yaml.

`make noise` runs it for all cells, after `make repro`. Each training is kept in data/noise until the cell's parameters
change, so a killed run continues, and several can run at a time, each with a cell of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import editdistance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from captchabench.cells.cell import Cell, expected_cells
from captchabench.cells.split import balanced, held_out, read_cell_samples, split_rest
from captchabench.config import Params, load_params, read_yaml
from captchabench.models import build_recogniser
from captchabench.predictions.held_out import PredictionInfo, read_predictions, write_predictions
from captchabench.samples.shards import Samples
from captchabench.scoring.cells import parts_of
from captchabench.scoring.tiles import wrong_tiles
from captchabench.storage.files import write_text
from captchabench.studies.noise import DEFAULT_TRAININGS, NOISE, noise_row, noise_table, parameters_digest
from captchabench.training.checkpoints import Checkpoints
from stages import run
from stages.scratch import checksum_of, scratch_folder

_KEPT = Path("data/noise")


def main(*arguments: str) -> None:
    """Train what is missing, and write the table of all cells with at least two trainings."""
    params, raw = load_params(), read_yaml(Path("params.yaml"))
    first = params.matrix.folds[0]
    cells = [cell for cell in expected_cells(params.matrix) if cell.fold == first]
    chosen = [Cell.from_arguments((*arguments, str(first)), params)] if arguments else cells
    for cell in chosen:
        _retrain(cell, params, _folder(cell, raw))
    rows = [row for cell in cells for row in _rows(cell, raw)]
    write_text(Path(NOISE.path), noise_table(rows).write_csv(float_precision=6))
    print(f"noise: {len(rows)} rows in {NOISE.path}")


def _folder(cell: Cell, raw: Mapping[str, Any]) -> Path:
    return _KEPT / f"{cell}.{parameters_digest(raw, cell.dataset, cell.model)}"


def _retrain(cell: Cell, params: Params, folder: Path) -> None:
    missing = [number for number in range(DEFAULT_TRAININGS) if not _predictions(folder, number).exists()]
    if not missing:
        return
    samples = read_cell_samples(cell, params)
    unseen = held_out(samples, cell.fold)
    for number in missing:
        # A seed that no fold has.
        seed = params.training.seed + params.folds.count + number
        share = retrain(cell, params, samples, unseen, seed, _predictions(folder, number))
        print(f"{cell}: retraining {number + 1}, {share:.2%} of {len(unseen):,} held-out images exact", flush=True)


def _predictions(folder: Path, number: int) -> Path:
    return folder / f"{number}.parquet"


def retrain(cell: Cell, params: Params, samples: Samples, unseen: Samples, seed: int, path: Path) -> float:
    """Train as `train` does, from `seed`, and write what the model reads of `unseen`; return the share read right."""
    parts = split_rest(samples, cell.fold, params.training.validation_share, seed)
    return fit_and_read(cell, params, parts, unseen, seed, path)


def fit_and_read(
    cell: Cell, params: Params, parts: tuple[Samples, Samples], unseen: Samples, seed: int, path: Path
) -> float:
    """The same for given training and validation samples."""
    train, validation = balanced(parts[0], params.training.balance), parts[1]
    recogniser = build_recogniser(cell.model, train.info.spec, params.of_model(cell.model, cell.dataset))
    inputs = {"seed": seed, "shards": checksum_of(train, validation), "parameters": asdict(recogniser.config)}
    checkpoints = Checkpoints(scratch_folder(cell, inputs | recogniser.machine(), report=False))
    recogniser.fit(train, validation, seed=seed, progress=True, checkpoints=checkpoints)
    reading = recogniser.predict(unseen.pixels)
    info = PredictionInfo.of(train.info, cell.model, cell.fold, recogniser.parameter_count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, info, unseen, reading, None)
    return float(np.mean([text == label for text, label in zip(reading.texts, unseen.labels, strict=True)]))


def _rows(cell: Cell, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a cell: one, and for `union` one more for each member; none with fewer than two trainings."""
    folder = _folder(cell, raw)
    read = [read_predictions(path) for path in sorted(folder.glob("*.parquet"))]
    if len(read) < 2:
        return []
    parts = [parts_of(info, table) for info, table in read]
    identity = {"model": cell.model, "parameters": parameters_digest(raw, cell.dataset, cell.model)}
    grids = bool(read[0][0].class_names)
    return [{"dataset": name, **identity, **spread([part[name] for part in parts], grids)} for name in parts[0]]


def spread(tables: Sequence[pa.Table], grids: bool) -> dict[str, float | int]:
    """The row of the table from what several trainings read of the same images. grids: whether they read tiles."""
    distance = wrong_tiles if grids else editdistance.eval
    labels = tables[0]["label"].to_pylist()
    right = np.stack([pc.equal(table["label"], table["prediction"]).to_numpy() for table in tables])
    edits = [list(map(distance, labels, table["prediction"].to_pylist())) for table in tables]
    return noise_row(right, np.array(edits, np.int64), np.array([len(label) for label in labels], np.int64))


if __name__ == "__main__":
    run(main)
