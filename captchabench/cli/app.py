"""The command line: `captchabench --help`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from captchabench.cli import compare, demo, doctor, predict, publish, train
from captchabench.config import PARAMS
from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset
from captchabench.datasets.declared import own_datasets
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.streams import allow_any_text
from captchabench.user import name_user

# The extras that install packages which only some commands need.
_EXTRAS = {
    "benchmark": {"kagglehub", "ruamel", "threadpoolctl"},
    "demo": {"fastapi", "prometheus_client", "starlette", "uvicorn"},
    "onnx": {"onnx", "onnxruntime", "onnxscript"},
    "report": {"altair", "dvc", "statsmodels", "vl_convert"},
}


class _Commands(typer.core.TyperGroup):
    """Reports a user's mistake in one line and exits with code 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        allow_any_text()
        name_user()
        if sys.flags.optimize > 1:
            typer.echo("note: descriptions are missing, since PYTHONOPTIMIZE=2 (-OO) removes them", err=True)
        try:
            return super().main(*args, **kwargs)
        except InputError as error:
            message = f"error: {error}"
            if (root := _root_above()) is not None:
                message += f"\nnote: results are looked for in this folder, and the project is in {root}; run it there"
            Console(stderr=True, highlight=False).print(message, soft_wrap=True, markup=False)
            raise SystemExit(1) from None
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            extra = next((name for name, packages in _EXTRAS.items() if missing in packages), None)
            if extra is None:
                raise
            typer.echo(f"error: this needs {missing}; run: pip install 'captchabench[{extra}]'", err=True)
            raise SystemExit(1) from None
        except OSError as error:
            # For example a full disk, or a folder without write permission.
            typer.echo(f"error: {error.filename2 or error.filename or 'output'}: {error.strerror}", err=True)
            raise SystemExit(1) from None


def _root_above() -> Path | None:
    """The folder of the project if the working folder is inside of it, else None."""
    if PARAMS.exists():
        return None
    return next((folder for folder in Path.cwd().parents if (folder / PARAMS).exists()), None)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    help="An offline, reproducible benchmark of CAPTCHA recognisers. `dvc repro` runs it; these use the results.",
)


@app.command()
def leaderboard(
    path: Annotated[Path, typer.Argument(help="The table that the `leaderboard` stage wrote.")] = Path(
        "metrics/leaderboard.csv"
    ),
) -> None:
    """Print the leaderboard: exact match with its 95 % interval, CER and speed, by dataset."""
    # Imported here: the statistics packages take a second to import, which other commands do not need.
    from captchabench.report.terminal import print_leaderboard

    print_leaderboard(path)


@app.command()
def apply(
    overlays: Annotated[
        list[Path], typer.Argument(help="YAML files with the parameters to change, nested as in params.yaml.")
    ],
    params: Annotated[Path, typer.Option(help="The file to change.")] = PARAMS,
) -> None:
    """Change params.yaml by overlays such as params.full.yaml, in the order given; comments are kept."""
    from captchabench.cli.overlay import apply_overlay

    for overlay in overlays:
        for key, old, new in apply_overlay(overlay, params):
            typer.echo(f"{key}: {old} -> {new}")


@app.command()
def datasets() -> None:
    """List the datasets with their Kaggle handle, licence and alphabet, and those that params.yaml declares."""
    table = Table("dataset", "Kaggle handle or path", "images", "labels", "alphabet or classes", "licence")
    for key in DATASETS.names():
        dataset = DATASETS[key]
        table.add_row(
            key,
            dataset.handle or "any folder of images by class",
            f"{dataset.images:,}",
            f"{_span(dataset)} of {len(dataset.alphabet)} {'classes' if dataset.class_names else 'symbols'}",
            ", ".join(dataset.class_names) or dataset.alphabet.symbols,
            dataset.licence,
        )
    for dataset in own_datasets():
        labels = f"{_span(dataset)}, {dataset.rule or 'inferred'}"
        table.add_row(dataset.key, dataset.path, "", labels, dataset.symbols or "all that occur", dataset.licence)
    Console().print(table)


def _span(dataset: Dataset) -> str:
    """The lengths of its labels."""
    if not dataset.max_length:
        return f"{dataset.min_length} or more" if dataset.min_length else "any length"
    low = dataset.min_length or 1
    return str(low) if low == dataset.max_length else f"{low} to {dataset.max_length}"


@app.command()
def models() -> None:
    """List the models with a description."""
    table = Table("model", "what it is", "file")
    for name in RECOGNISERS.names():
        summary = (RECOGNISERS[name].__doc__ or "").partition("\n")[0]
        table.add_row(name, summary, f"captchabench/models/{name}.py")
    Console().print(table)


app.command()(train.train)
app.command()(compare.compare)
app.command()(compare.history)
app.command()(predict.predict)
app.command()(predict.export)
app.command()(demo.demo)
app.command()(publish.publish)
app.command()(doctor.doctor)

if __name__ == "__main__":
    app()
