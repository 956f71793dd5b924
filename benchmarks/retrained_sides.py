"""Verdicts on real trainings: pairs of sides of one program that differ in their seeds alone, and one that is worse.

Run in a folder with data/shards, after `dvc repro normalize`. Each text cell of the first fold is trained many times on
a share of its budget: two sides for each pair, one with a third of that budget, and those of the study of noise. No
"worse" between two sides of one program is right; a model cut to a third of its budget has become worse. Trainings are
kept in `--folder`, so that a killed run continues.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.table import Table

from benchmarks.results import default_path, finish, run, say
from captchabench.cells.cell import Cell
from captchabench.cells.split import held_out, read_cell_samples
from captchabench.comparison.compare import compare
from captchabench.comparison.retraining import Noise
from captchabench.comparison.rows import LEVEL, Comparison
from captchabench.comparison.sides import Key, Side, pool
from captchabench.config import Params, load_params
from captchabench.predictions.held_out import read_predictions
from captchabench.scoring.cells import score_predictions, write_cell
from captchabench.studies.noise import DEFAULT_TRAININGS
from stages.noise import retrain, spread

_SEED = 1000
_COLUMNS = ["dataset", "sample_id", "label", "prediction"]


def main(
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of retrained sides.")] = 40,
    budget: Annotated[float, typer.Option(min=0.001, max=1, help="Share of the default steps.")] = 0.2,
    cut: Annotated[str, typer.Option(help="The model that is cut to a third of the budget.")] = "crnn",
    folder: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("data/retrained"),
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Count the tables with any "worse", between sides of one program and after the cut."""
    params = load_params()
    fold = params.matrix.folds[0]
    cells = [Cell(dataset, model, fold) for dataset in params.matrix.datasets for model in params.matrix.models]
    read: dict[str, dict[Cell, list[Path]]] = {"equal": {}, "cut": {}}
    noise: dict[Key, dict[str, Noise]] = {}
    for cell in cells:
        of_budget = _with_steps(params, cell.model, budget)
        trained = _trainings(cell, of_budget, folder / f"{budget:g}", 2 * pairs + DEFAULT_TRAININGS)
        read["equal"][cell] = trained[: 2 * pairs]
        noise[cell[:2]] = _noise(trained[2 * pairs :])
        if cell.model == cut:
            third = _with_steps(params, cell.model, budget / 3)
            read["cut"][cell] = _trainings(cell, third, folder / f"{budget / 3:g}", pairs)
    rows = []
    for pair in range(pairs):
        old = {cell: paths[2 * pair] for cell, paths in read["equal"].items()}
        new = {cell: paths[2 * pair + 1] for cell, paths in read["equal"].items()}
        worse = new | {cell: paths[pair] for cell, paths in read["cut"].items()}
        rows += [_row(name, _compared(old, side, noise)) for name, side in (("equal", new), ("cut", worse))]
    result = {"benchmark": "retrained_sides", "pairs": pairs, "budget": budget, "cut": cut, "rows": rows}
    finish(out or default_path("retrained_sides"), result, [f"{pairs} pairs of {len(cells)} cells"], _table(rows))


def _with_steps(params: Params, model: str, share: float) -> Params:
    """The parameters with a share of the model's steps."""
    section = params.models[model]
    training = section.get("training")
    if not training or "steps" not in training:
        return params
    steps = max(1, round(training["steps"] * share))
    return replace(params, models={**params.models, model: {**section, "training": {**training, "steps": steps}}})


def _trainings(cell: Cell, params: Params, folder: Path, count: int) -> list[Path]:
    """What `count` trainings of the cell read of its held-out fold; those that are there already are kept."""
    paths = [folder / f"{cell}.{number}.parquet" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        say(f"{cell}: {len(missing)} trainings")
        samples = read_cell_samples(cell, params)
        unseen = held_out(samples, cell.fold)
        for number in missing:
            retrain(cell, params, samples, unseen, _SEED + number, paths[number])
    return paths


def _noise(paths: list[Path]) -> dict[str, Noise]:
    row = spread([read_predictions(path)[1] for path in paths], grids=False)
    return {
        metric: Noise(row[f"{metric}_sd"] ** 2, row[f"{metric}_sd_images"] ** 2, len(paths))
        for metric in ("exact", "cer")
    }


def _compared(old: Mapping[Cell, Path], new: Mapping[Cell, Path], noise: Mapping[Key, dict[str, Noise]]) -> Comparison:
    return compare(*(_side(name, paths, noise) for name, paths in (("old", old), ("new", new))))


def _side(name: str, paths: Mapping[Cell, Path], noise: Mapping[Key, dict[str, Noise]]) -> Side:
    scored = {}
    for cell, path in paths.items():
        written = path.with_suffix(".json")
        if not written.exists():
            write_cell(written, score_predictions(path))
        scored[cell] = written.read_bytes()

    def predictions(cell: Cell) -> pl.DataFrame:
        return pl.DataFrame(read_predictions(paths[cell])[1].select(_COLUMNS))

    return Side(name, None, pool(name, scored, {}, noise=noise), predictions)


def _row(name: str, comparison: Comparison) -> dict[str, Any]:
    """How many rows are worse: the change (b), and the two networks (a)."""
    networks = [
        row
        for row in comparison.rows
        if row.exact and row.exact.difference < 0 and row.networks and (row.networks.p_holm or 1) < LEVEL
    ]
    return {"new": name, "change": len(comparison.regressions()), "networks": len(networks)}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="share of tables with any worse row")
    for column in ("new side", "tables", "change (b)", "networks (a)"):
        table.add_column(column, justify="left" if column == "new side" else "right")
    for name in ("equal", "cut"):
        tables = [row for row in rows if row["new"] == name]
        shares = (f"{sum(row[by] > 0 for row in tables) / len(tables):.1%}" for by in ("change", "networks"))
        table.add_row(name, str(len(tables)), *shares)
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
