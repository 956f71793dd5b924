"""Verdicts on real trainings: pairs of sides of one program that differ in their seeds alone, and one that is worse.

Run in a copy of the project, after `captchabench apply benchmarks/retrained_sides.yaml` and `dvc repro normalize`: the
overlay has budgets of one or two CPU seconds a training. Each text cell of the first fold is trained twice for each
pair, and the model `--cut` once more with a third of its steps. No "worse" between two sides of one program is right; a
model cut to a third of its budget has become worse.

Each pair has a study of retraining of its own: five trainings drawn from those of the other pairs. So the estimates of
different pairs err differently, as they do between users. Trainings are kept in `--folder`: a killed run continues, and
fewer `--pairs` evaluate what is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import typer
from rich.table import Table

from benchmarks.results import default_path, finish, run, say
from captchabench.cells.cell import Cell
from captchabench.cells.split import held_out, read_cell_samples
from captchabench.comparison.compare import compare
from captchabench.comparison.retraining import Metric, Noise, measured
from captchabench.comparison.rows import LEVEL, Comparison, Row
from captchabench.comparison.sides import Key, Side, pool
from captchabench.config import Params, load_params, merged, read_yaml
from captchabench.errors import InputError
from captchabench.predictions.held_out import read_predictions
from captchabench.samples.shards import Samples
from captchabench.scoring.cells import score_predictions, write_cell
from captchabench.studies.noise import DEFAULT_TRAININGS, icc, parameters_digest
from stages.noise import retrain, spread

_SEED = 1000
_COLUMNS = ["dataset", "sample_id", "label", "prediction"]
NoiseOf = Mapping[Key, Mapping[Metric, Noise]]
UNMEASURED: NoiseOf = MappingProxyType({})


def main(
    pairs: Annotated[int, typer.Option(min=2, help="Pairs of retrained sides.")] = 40,
    cut: Annotated[str, typer.Option(help="The model that is also trained with a third of its steps.")] = "crnn",
    folder: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("data/retrained"),
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Count the tables with any "worse", between sides of one program and after the cut."""
    params, raw = load_params(), read_yaml(Path("params.yaml"))
    if cut not in params.matrix.models:
        raise InputError(f"--cut: {cut} is not in matrix.models of params.yaml; name one that is")
    cells = [
        Cell(dataset, model, params.matrix.folds[0])
        for dataset in params.matrix.datasets
        for model in params.matrix.models
    ]
    of_cell = [
        _Retrained(cell, folder / f"{cell}.{parameters_digest(raw, cell.dataset, cell.model)}", cell.model == cut)
        for cell in cells
    ]
    for pair in range(pairs):
        say(f"pair {pair + 1} of {pairs}")
        for cell in of_cell:
            cell.train(pair, params)
    rows = [row for pair in range(pairs) for row in _rows(pair, pairs, of_cell)]
    spreads = [_spread(cell, pairs) for cell in of_cell]
    result = {"benchmark": "retrained_sides", "pairs": pairs, "cut": cut, "rows": rows, "cells": spreads}
    note = f"{pairs} pairs of sides with {len(cells)} cells each; {cut} is cut to a third of its steps"
    finish(out or default_path("retrained_sides"), result, [note], _table(rows), _spreads(spreads))


@dataclass(frozen=True)
class _Retrained:
    """The trainings of one cell, in a folder. is_cut: whether there are also some with a third of the steps."""

    cell: Cell
    folder: Path
    is_cut: bool

    def side(self, number: int) -> Path:
        """What one training read; pair k has the numbers 2k and 2k + 1."""
        return self.folder / f"{number}.parquet"

    def third(self, pair: int) -> Path:
        """What a training with a third of the steps read."""
        return self.folder / f"third-{pair}.parquet"

    def train(self, pair: int, params: Params) -> None:
        """Make the trainings of one pair that are missing."""
        trainings = [(self.side(number), params, _SEED + number) for number in (2 * pair, 2 * pair + 1)]
        if self.is_cut:
            trainings.append((self.third(pair), _third(self.cell, params), _SEED + 2 * pair + 1))
        for path, of_training, seed in trainings:
            if not path.exists():
                samples, unseen = _samples(self.cell.dataset, self.cell.fold)
                retrain(self.cell, of_training, samples, unseen, seed, path)


def _third(cell: Cell, params: Params) -> Params:
    """The parameters with a third of the cell's steps."""
    steps = params.of_model(cell.model, cell.dataset)["training"]["steps"]
    dataset = params.datasets[cell.dataset]
    override = {"training": {"steps": max(1, round(steps / 3))}}
    models = {**dataset.models, cell.model: merged(dataset.models.get(cell.model, {}), override)}
    return replace(params, datasets={**params.datasets, cell.dataset: replace(dataset, models=models)})


@cache
def _samples(dataset: str, fold: int) -> tuple[Samples, Samples]:
    """All images of a dataset, and the held-out ones."""
    samples = read_cell_samples(Cell(dataset, "", fold), load_params())
    return samples, held_out(samples, fold)


@cache
def _read(path: Path) -> pa.Table:
    return read_predictions(path)[1]


@cache
def _scored(path: Path) -> bytes:
    written = path.with_suffix(".json")
    write_cell(written, score_predictions(path))
    return written.read_bytes()


def _rows(pair: int, pairs: int, cells: Sequence[_Retrained]) -> list[dict[str, Any]]:
    """The tables of one pair: two sides of one program, and a side with the cut model."""
    others = [number for number in range(2 * pairs) if number // 2 != pair]
    rng = np.random.default_rng([_SEED, pair])
    studied = rng.choice(others, min(DEFAULT_TRAININGS, len(others)), replace=False).tolist()
    noise = {one.cell[:2]: measured(_retraining(one, studied)) for one in cells}
    old, new = ({one.cell: one.side(number) for one in cells} for number in (2 * pair, 2 * pair + 1))
    worse = new | {one.cell: one.third(pair) for one in cells if one.is_cut}
    return [
        {"new": name, "pair": pair, **_worse(_compared(old, side, noise), _compared(old, side, UNMEASURED))}
        for name, side in (("same program", new), ("cut", worse))
    ]


def _retraining(one: _Retrained, numbers: Sequence[int]) -> dict[str, float | int]:
    """The columns of metrics/noise.csv, from these trainings."""
    return spread([_read(one.side(number)) for number in numbers], grids=False)


def _compared(old: Mapping[Cell, Path], new: Mapping[Cell, Path], noise: NoiseOf) -> Comparison:
    return compare(*(_side(name, paths, noise) for name, paths in (("old", old), ("new", new))))


def _side(name: str, paths: Mapping[Cell, Path], noise: NoiseOf) -> Side:
    def predictions(cell: Cell) -> pl.DataFrame:
        return pl.DataFrame(_read(paths[cell]).select(_COLUMNS))

    scored = {cell: _scored(path) for cell, path in paths.items()}
    return Side(name, None, pool(name, scored, {}, noise=noise), predictions)


def _worse(measured: Comparison, unmeasured: Comparison) -> dict[str, list[str]]:
    """The rows that are worse by each question, as "dataset-model"."""
    networks = [
        row
        for row in measured.rows
        if row.exact and row.exact.difference < 0 and row.networks and (row.networks.p_holm or 1) < LEVEL
    ]
    found = {"change": measured.regressions(), "assumed": unmeasured.regressions(), "networks": networks}
    return {question: [_name(row) for row in rows] for question, rows in found.items()}


def _name(row: Row) -> str:
    return f"{row.dataset}-{row.model}"


def _spread(one: _Retrained, pairs: int) -> dict[str, Any]:
    """How far all trainings of a cell differ."""
    row = _retraining(one, range(2 * pairs))
    return {"cell": str(one.cell), **row, "icc": icc(row)}


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="share of tables with any worse row")
    for column in ("new side", "tables", "change (b)", "assumed noise", "networks (a)"):
        table.add_column(column, justify="left" if column == "new side" else "right")
    for name in dict.fromkeys(row["new"] for row in rows):
        tables = [row for row in rows if row["new"] == name]
        shares = (f"{np.mean([bool(row[by]) for row in tables]):.1%}" for by in ("change", "assumed", "networks"))
        table.add_row(name, str(len(tables)), *shares)
    return table


def _spreads(cells: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="retraining of each cell")
    for column in ("cell", "images", "exact", "sd, points", "of images", "ICC", "CER"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    for one in cells:
        points = (f"{100 * one[name]:.2f}" for name in ("exact_sd", "exact_sd_images"))
        table.add_row(
            one["cell"], str(one["n"]), f"{one['exact']:.1%}", *points, f"{one['icc']:.4f}", f"{one['cer']:.1%}"
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
