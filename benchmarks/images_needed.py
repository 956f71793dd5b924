"""How well the curve over the number of training images predicts.

For each set and each held-out fifth, the curve is fitted to models that saw a quarter and a half of the training
images. Its forecast for all of them is compared with what a model that saw all of them reads. The interval should hold
that in 95 of 100 tries.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.results import default_path, finish, run, say
from captchabench.networks.device import choose_device
from captchabench.own.forecast import Curve
from captchabench.own.plan import plan_for
from captchabench.own.preparing import FOLDS, Options, find, prepare
from captchabench.own.results import Results, collect
from captchabench.own.runs import Run, specs_of
from captchabench.own.trials import run_trials
from captchabench.pool import cores


def main(
    paths: Annotated[list[Path], typer.Argument(help="Labelled sets, as `captchabench train` takes them.")],
    folds: Annotated[int, typer.Option(min=1, max=FOLDS, help="How many fifths to hold out, one after the other.")] = 2,
    minutes: Annotated[float | None, typer.Option(help="For each set and fifth; by default as many as train.")] = None,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Forecast the whole from a quarter and a half, for every set and held-out fifth.

    For example: python -m benchmarks.images_needed captchas.zip others.zip --folds 5
    """
    rows = [_try(path, fold, minutes) for path in paths for fold in range(folds)]
    within = sum(row["low"] <= row["measured"] <= row["high"] for row in rows)
    result = {"benchmark": "images_needed", "machine": machine(choose_device()), "within": within, "rows": rows}
    notes = [f"{within} of {len(rows)} forecasts hold what was measured", f"{result['machine']}"]
    finish(out or default_path("images_needed"), result, notes, _table(rows))


def _try(path: Path, fold: int, minutes: float | None) -> dict[str, Any]:
    found = find(path, Options())
    say(f"{found.name}, fold {fold}")
    with TemporaryDirectory() as folder:
        prepared = prepare(found, Path(folder))
        plan = plan_for(prepared.kept, found.size, tiles=found.tiles, minutes=minutes, cores=min(cores(), FOLDS))
        trained = Run(prepared, plan, (fold,))
        run_trials(specs_of(trained), cores(), progress=True)
        collect(trained)
        quarter, half, whole = Results.of(trained).points
    forecast = Curve([quarter, half]).at(whole.images)
    return {
        "set": found.name,
        "fold": fold,
        "quarter": quarter.right / quarter.total,
        "half": half.right / half.total,
        "forecast": forecast.share,
        "low": forecast.interval.low,
        "high": forecast.interval.high,
        "measured": whole.right / whole.total,
        "images": whole.images,
        "held_out": whole.total,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="what all training images bring, forecast from a quarter and a half")
    for column in ("set", "fold", "quarter", "half", "forecast", "95 % interval", "measured", "within"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in rows:
        table.add_row(
            row["set"],
            str(row["fold"]),
            *(f"{row[name]:.1%}" for name in ("quarter", "half", "forecast")),
            f"{100 * row['low']:.1f}–{100 * row['high']:.1f}",
            f"{row['measured']:.1%}",
            "yes" if row["low"] <= row["measured"] <= row["high"] else "no",
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
