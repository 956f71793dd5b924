"""How well the curve over the number of training images predicts.

For each set and each held-out fifth, the curve is fitted to models that saw a quarter and a half of the training
images. Its forecast for all of them is compared with what a model that saw all of them reads. The interval should hold
that in 95 of 100 tries.

The trainings are those of `captchabench train`, one after the other on one thread. With --share, "all" training images
are a share of those at hand, so that the models are trained in seconds and measured on a whole fifth. The JSON file has
what each model read: when the command is called again, it trains only what the file lacks, and computes all forecasts
again.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.results import default_path, finish, run, say
from captchabench.datasets import DATASETS
from captchabench.own.forecast import Curve, Forecast, Point
from captchabench.own.plan import plan_for
from captchabench.own.preparing import FOLDS, Options, find, prepare
from captchabench.own.results import Results
from captchabench.own.runs import Run, specs_of
from captchabench.own.trial import run_trial
from captchabench.storage.files import write_json

_DRAWN = 1000


def main(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Labelled sets, as `captchabench train` takes them.")
    ] = None,
    drawn: Annotated[
        list[str] | None, typer.Option(help=f"A dataset of which {_DRAWN:,} stand-ins are drawn; repeat for several.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, max=FOLDS, help="How many fifths to hold out, one after the other.")] = 2,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Of the training images, to train on at most.")] = 1.0,
    minutes: Annotated[float | None, typer.Option(help="For each set and fifth; by default as many as train.")] = None,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Forecast the whole from a quarter and a half, for every set and held-out fifth.

    For example: python -m benchmarks.images_needed captchas.zip --drawn vtu --folds 5 --share 0.3
    """
    torch.set_num_threads(1)
    file = out or default_path("images_needed")
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    about = {"benchmark": "images_needed", "machine": machine(torch.device("cpu"))}
    sets = [*map(str, paths or ()), *(f"{name}, drawn" for name in drawn or ())]
    for fold in range(folds):
        for name in sets:
            key = {"set": Path(name).name, "fold": fold, "share": share, "minutes": minutes}
            if any(row.items() >= key.items() for row in rows):
                continue
            say(f"{key['set']}, fold {fold}")
            started = process_time()
            points = _points(name, fold, share, minutes)
            read = [[point.images, point.right, point.total] for point in points]
            rows.append({**key, "points": read, "cpu_seconds": round(process_time() - started, 1)})
            write_json(file, {**about, "rows": rows})
    tries = [(row, *_forecast(row)) for row in rows]
    within = sum(_holds(forecast, whole) for _, forecast, whole in tries)
    notes = [f"{within} of {len(rows)} intervals hold what was measured", f"{about['machine']}"]
    finish(file, {**about, "within": within, "rows": rows}, notes, _table(tries))


def _points(name: str, fold: int, share: float, minutes: float | None) -> list[Point]:
    """What the models of a quarter, of a half and of all of the training images read of the held-out fifth."""
    with _opened(name) as path, TemporaryDirectory() as folder, Path(os.devnull).open("w") as progress:
        found = find(path, Options())
        prepared = prepare(found, Path(folder))
        plan = plan_for(
            round(share * prepared.kept),
            found.size,
            tiles=found.tiles,
            photographs=found.photographs,
            minutes=minutes,
        )
        trained = Run(prepared, plan, (fold,))
        for spec in specs_of(trained):
            if spec.model == plan.model:
                run_trial(replace(spec, share=share * spec.share, weights=""), progress)
        return Results(trained, ()).points


@contextmanager
def _opened(name: str) -> Iterator[Path]:
    """The path of a set; of a drawn one, a folder that is removed later."""
    dataset, comma, _ = name.partition(", drawn")
    if not comma:
        yield Path(name)
        return
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        for number in range(_DRAWN):
            drawing = DATASETS[dataset].draw(rng)
            Path(folder, f"{drawing.label}_{number}.{drawing.suffix}").write_bytes(drawing.encoded)
        yield Path(folder)


def _forecast(row: dict[str, Any]) -> tuple[Forecast, Point]:
    """The forecast of a try, and what it forecasts."""
    quarter, half, whole = (Point(*point) for point in row["points"])
    return Curve([quarter, half]).at(whole.images), whole


def _holds(forecast: Forecast, whole: Point) -> bool:
    low, high = forecast.interval
    return low <= whole.right / whole.total <= high


def _table(tries: list[tuple[dict[str, Any], Forecast, Point]]) -> Table:
    table = Table(title="what all training images bring, forecast from a quarter and a half")
    for column in ("set", "fold", "images", "quarter", "half", "forecast", "95 % interval", "measured", "within"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row, forecast, whole in tries:
        quarter, half, read = (f"{right / total:.1%}" for _, right, total in row["points"])
        table.add_row(
            row["set"],
            str(row["fold"]),
            f"{whole.images:,}",
            quarter,
            half,
            f"{forecast.share:.1%}",
            f"{100 * forecast.interval.low:.1f}–{100 * forecast.interval.high:.1f}",
            read,
            "yes" if _holds(forecast, whole) else "no",
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
