"""images_needed NAME [D M]: train each cell of the full run NAME on fewer images -> results/NAME.images.csv; opt-in.

`make images-needed RUN=NAME` runs it for all cells, after the run itself, whose predictions are those of all images.
Each training is kept in data/images_needed until the cell's parameters change, so a killed study continues, and several
can run at a time, each with a dataset and model of its own.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from captchabench.cells.cell import Cell, expected_cells
from captchabench.cells.split import held_out, read_cell_samples, split_rest
from captchabench.config import Params, load_params, read_yaml
from captchabench.errors import InputError
from captchabench.models import build_recogniser, read_saved
from captchabench.predictions.held_out import read_predictions
from captchabench.report.runs import RESULTS
from captchabench.samples.shards import Samples
from captchabench.scoring.cells import score_predictions
from captchabench.storage.files import as_json, write_text
from captchabench.studies.images_needed import SCHEMA, part, row, sizes_below, table_path
from captchabench.studies.noise import parameters_digest
from stages import run
from stages.noise import fit_and_read

_KEPT = Path("data/images_needed")


def main(name: str, *arguments: str) -> None:
    """Train what is missing, and write the table of all datasets and models that are complete."""
    params, raw = load_params(), read_yaml(Path("params.yaml"))
    overlay = RESULTS / f"{name}.yaml"
    if not overlay.exists():
        raise InputError(f"{overlay}: missing; give the name of a run in results/")
    cells = expected_cells(params.matrix)
    if arguments:
        wanted = Cell.from_arguments((*arguments, str(params.matrix.folds[0])), params)[:2]
        chosen = [cell for cell in cells if cell[:2] == wanted]
    else:
        chosen = cells
    for cell in chosen:
        _train_on_parts(cell, params, raw)
    rows = _rows(cells, params, raw)
    table = pl.DataFrame(rows, SCHEMA, orient="row").sort("dataset", "model", "images")
    path = table_path(overlay)
    write_text(path, table.write_csv(float_precision=6))
    print(f"images_needed: {table.height} rows in {path}")


def _predictions(cell: Cell, size: int, raw: Mapping[str, Any]) -> Path:
    return _KEPT / f"{cell}.{parameters_digest(raw, cell.dataset, cell.model)}" / f"{size}.parquet"


def _train_on_parts(cell: Cell, params: Params, raw: Mapping[str, Any]) -> None:
    samples = read_cell_samples(cell, params)
    unseen = held_out(samples, cell.fold)
    _check_whole(cell, params, samples, unseen)
    seed = params.training.seed + cell.fold
    train, validation = split_rest(samples, cell.fold, params.training.validation_share, seed)
    for size in sizes_below(len(train) + len(validation)):
        path = _predictions(cell, size, raw)
        if path.exists():
            continue
        share = fit_and_read(cell, params, part(train, validation, size), unseen, seed, path)
        print(f"{cell}: {size:,} images, {share:.2%} of {len(unseen):,} held-out images exact", flush=True)


def _check_whole(cell: Cell, params: Params, samples: Samples, unseen: Samples) -> None:
    """Raise InputError unless the cell's model has these parameters, and it and its predictions are of these images."""
    recogniser = build_recogniser(cell.model, samples.info.spec, params.of_model(cell.model, cell.dataset))
    saved = read_saved(cell.weights)
    same = as_json(asdict(recogniser.config)) == as_json(dict(saved.parameters))
    same &= vars(samples.info).items() <= vars(saved.about).items()
    _, table = read_predictions(cell.predictions)
    ids, labels = table["sample_id"].to_pylist(), table["label"].to_pylist()
    if not same or (ids, labels) != (unseen.sample_ids.tolist(), unseen.labels.tolist()):
        raise InputError(f"{cell.predictions}: is of other parameters or images; run `make result RUN=...` first")


def _rows(cells: list[Cell], params: Params, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of all datasets and models whose parts were all trained on in all folds."""
    rows = []
    for dataset, model in dict.fromkeys(cell[:2] for cell in cells):
        folds = [cell for cell in cells if cell[:2] == (dataset, model)]
        of_images = read_cell_samples(folds[0], params).folds
        outside = [int((of_images != cell.fold).sum()) for cell in folds]
        sizes = sizes_below(min(outside))
        files = {size: [_predictions(cell, size, raw) for cell in folds] for size in sizes}
        if not all(path.exists() for paths in files.values() for path in paths):
            continue
        digest = parameters_digest(raw, dataset, model)
        for size, paths in [*files.items(), (0, [cell.predictions for cell in folds])]:
            counts = [score_predictions(path).parts[dataset].counts for path in paths]
            rows.append(row(dataset, model, digest, [size] * len(folds) if size else outside, counts))
    return rows


if __name__ == "__main__":
    run(main)
