"""How many planted wrong labels are in the list of suspects.

Images are drawn and some labels replaced: half by another text, half in one symbol. In each of five folds, models are
trained on the other four, wrong labels included, so every image is read by models that were not trained on it. Then
suspects are listed as in the `suspects` stage, from each model alone and from all together.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from rich.table import Table

from benchmarks.images import draw_images
from benchmarks.machine import machine
from benchmarks.parameters import Budget, chosen_models, model_parameters
from benchmarks.results import default_path, finish, run, say
from captchabench.cells.split import held_out, split_rest
from captchabench.models import build_recogniser
from captchabench.networks.device import choose_device
from captchabench.predictions.held_out import PredictionInfo, read_predictions, write_predictions
from captchabench.samples.shards import Samples
from captchabench.studies.label_errors import suspects

_HEIGHT, _WIDTH = 32, 100

Predictions = list[tuple[PredictionInfo, pa.Table]]


def main(
    dataset: Annotated[str, typer.Option(help="The dataset that the images imitate.")] = "numbers6",
    images: Annotated[int, typer.Option(min=100, help="Number of images.")] = 10_000,
    wrong: Annotated[int, typer.Option(min=2, help="Number of wrong labels.")] = 100,
    model: Annotated[list[str] | None, typer.Option(help="Repeatable. Default: hog_svc and char_cnn.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of images, wrong labels and training.")] = 0,
    params: Annotated[
        Budget, typer.Option(help="params.yaml alone, or overridden by params.full.yaml.")
    ] = Budget.default,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Plant wrong labels and count those that are listed as suspects.

    For example: python -m benchmarks.label_errors --model hog_svc --model char_cnn
    """
    parameters = model_parameters(params)
    models = chosen_models(model or ["hog_svc", "char_cnn"], sorted(parameters))
    right = draw_images(dataset, images, seed).samples(_HEIGHT, _WIDTH)
    planted, samples = _plant(right, wrong, np.random.default_rng(seed))
    read: dict[str, Predictions] = {}
    with TemporaryDirectory() as folder:
        for name in models:
            read[name] = [_read(samples, name, parameters[name], f, seed, Path(folder)) for f in range(5)]
    names = {dataset: {sample_id: sample_id for sample_id in samples.sample_ids}}
    rows = []
    for group in [*([name] for name in models), *([models] if len(models) > 1 else [])]:
        listed = suspects([cell for name in group for cell in read[name]], names)["sample_id"].to_list()
        exact = [_share_right(read[name], right) for name in group]
        rows.append(
            {
                "models": group,
                "exact": exact,
                "listed": len(listed),
                "planted": wrong,
                "found": len(planted & {*listed}),
            }
        )
    result = {
        "benchmark": "label_errors",
        "dataset": dataset,
        "look": right.info.source,
        "images": images,
        "seed": seed,
        "machine": machine(choose_device()),
        "rows": rows,
    }
    finish(out or default_path("label_errors"), result, [f"{result['machine']}"], _table(rows, dataset, images))


def _plant(samples: Samples, wrong: int, rng: np.random.Generator) -> tuple[set[str], Samples]:
    """The sample_ids of `wrong` samples, and all samples with those labels replaced."""
    labels = samples.labels.copy()
    symbols = list(samples.info.alphabet)
    chosen = rng.choice(len(samples), wrong, replace=False)
    for count, row in enumerate(chosen):
        text = list(labels[row])
        indices = range(len(text)) if count % 2 else [int(rng.integers(len(text)))]
        while "".join(text) == samples.labels[row]:
            for index in indices:
                text[index] = str(rng.choice(symbols))
        labels[row] = "".join(text)
    return set(samples.sample_ids[chosen]), replace(samples, labels=labels)


def _read(
    samples: Samples, name: str, parameters: dict[str, Any], fold: int, seed: int, folder: Path
) -> tuple[PredictionInfo, pa.Table]:
    """The predictions of a model for `fold`, trained on the other folds, as the predict stage writes them."""
    say(f"{name}, fold {fold}")
    train, validation = split_rest(samples, fold, 0.1, seed + fold)
    recogniser = build_recogniser(name, samples.info.spec, parameters)
    recogniser.fit(train, validation, seed=seed + fold)
    test = held_out(samples, fold)
    info = samples.info
    described = PredictionInfo(
        info.dataset, info.source, info.version, name, fold, info.alphabet, recogniser.parameter_count
    )
    path = folder / f"{info.dataset}-{name}-{fold}.parquet"
    write_predictions(
        path, described, test, recogniser.predict(test.pixels), recogniser.losses(test.pixels, test.labels)
    )
    return read_predictions(path)


def _share_right(cells: Predictions, samples: Samples) -> float:
    """Exact match with the true labels."""
    truth = dict(zip(samples.sample_ids, samples.labels, strict=True))
    flags = [
        truth[sample_id] == text
        for _, table in cells
        for sample_id, text in zip(table["sample_id"].to_pylist(), table["prediction"].to_pylist(), strict=True)
    ]
    return float(np.mean(flags))


def _table(rows: list[dict[str, Any]], dataset: str, images: int) -> Table:
    table = Table(title=f"wrong labels among {images:,} images like those of {dataset}, and how many are suspects")
    for column in ("models", "exact", "planted", "listed", "found"):
        table.add_column(column, justify="left" if column == "models" else "right")
    for row in rows:
        exact = ", ".join(f"{share:.1%}" for share in row["exact"])
        table.add_row(", ".join(row["models"]), exact, str(row["planted"]), str(row["listed"]), str(row["found"]))
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
