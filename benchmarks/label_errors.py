"""How many planted wrong labels are found, and how far up the list of suspects.

Some labels are replaced in one symbol: every other time by the symbol that looks most like it in a common font, else by
any. In each of five folds, models are trained on the other four, wrong labels included, so every image is read by
models that were not trained on it. With --trained the models are those of a run, which saw the right labels: a wrong
label is then only as hard to find as the image is to read.

Suspects are listed as in the `suspects` stage, from each model alone and from all together. Labels that were wrong
before count as false alarms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import cv2
import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.images import draw_images
from benchmarks.machine import machine
from benchmarks.parameters import Budget, chosen_models, model_parameters
from benchmarks.results import default_path, finish, run, say
from captchabench.cells.cell import Cell
from captchabench.cells.split import held_out, split_rest
from captchabench.datasets.drawing.glyphs import Face, glyph
from captchabench.models import build_recogniser, load_recogniser, read_saved
from captchabench.models.base import Recogniser
from captchabench.networks.device import choose_device
from captchabench.predictions.held_out import PredictionInfo, read_predictions, write_predictions
from captchabench.samples.shards import Samples, read_samples
from captchabench.studies.label_errors import suspects

_HEIGHT, _WIDTH = 32, 100
_FOLDS = range(5)
_FACE, _SIZE = Face("font_source_sans_pro", "SourceSansPro-Semibold.ttf"), 36

Predictions = list[tuple[PredictionInfo, pa.Table]]


@dataclass(frozen=True)
class Planted:
    """Samples with wrong labels. rows: which. alike: [rows], whether the wrong symbol looks like the right one."""

    samples: Samples
    rows: NDArray[np.int64]
    alike: NDArray[np.bool_]

    def found(self, listed: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the wrong labels are among these sample_ids: [rows]."""
        return np.isin(self.samples.sample_ids[self.rows].astype(str), listed)


def main(
    dataset: Annotated[str, typer.Option(help="The dataset that the images imitate.")] = "numbers6",
    images: Annotated[int, typer.Option(min=100, help="Number of images that are drawn.")] = 10_000,
    shards: Annotated[
        Path | None, typer.Option(help="Images of a run instead, such as data/shards/fournierp, with its five folds.")
    ] = None,
    trained: Annotated[
        Path | None, typer.Option(help="Models of that run, such as data/models: they never saw a wrong label.")
    ] = None,
    wrong: Annotated[float, typer.Option(min=0.001, max=0.5, help="Share of labels that become wrong.")] = 0.03,
    rounds: Annotated[int, typer.Option(min=1, help="How often labels are replaced anew; counts are summed.")] = 1,
    model: Annotated[list[str] | None, typer.Option(help="Repeatable. Default: hog_svc and char_cnn.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of images, wrong labels and training.")] = 0,
    params: Annotated[
        Budget, typer.Option(help="params.yaml alone, or overridden by params.full.yaml.")
    ] = Budget.default,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Plant wrong labels and count those that are listed as suspects.

    For example: python -m benchmarks.label_errors --shards data/shards/fournierp --trained data/models --rounds 5
    """
    parameters = model_parameters(params)
    models = chosen_models(model or ["hog_svc", "char_cnn"], sorted(parameters))
    right = read_samples(shards) if shards else draw_images(dataset, images, seed).samples(_HEIGHT, _WIDTH)
    count = max(1, round(wrong * len(right)))
    planted = [plant(right, count, np.random.default_rng([seed, number])) for number in range(rounds)]
    read: dict[str, list[Predictions]] = {}
    for name in models:
        say(name)
        read[name] = (
            _read_by_loaded(planted, name, trained)
            if trained
            else [_read_by_trained(one, name, parameters[name], seed) for one in planted]
        )
    groups = [*([name] for name in models), *([models] if len(models) > 1 else [])]
    rows = [_row(group, read, planted, right) for group in groups]
    result = {
        "benchmark": "label_errors",
        "dataset": right.info.dataset,
        "source": right.info.source,
        "images": len(right),
        "labels_replaced": "after training" if trained else "before training",
        "rounds": rounds,
        "seed": seed,
        "machine": machine(choose_device()),
        "rows": rows,
    }
    finish(out or default_path("label_errors"), result, [f"{result['machine']}"], _table(rows, result, count))


def plant(samples: Samples, wrong: int, rng: np.random.Generator) -> Planted:
    """Replace one symbol in each of `wrong` labels, every other time by the one that looks most like it."""
    labels = samples.labels.copy()
    symbols = samples.info.alphabet
    nearest = look_alikes(symbols)
    rows = np.sort(rng.choice(len(samples), wrong, replace=False))
    alike = np.arange(wrong) % 2 == 0
    for row, similar in zip(rows, alike, strict=True):
        text = list(labels[row])
        index = int(rng.integers(len(text)))
        others = [symbol for symbol in symbols if symbol != text[index]]
        text[index] = nearest[text[index]] if similar else str(rng.choice(others))
        labels[row] = "".join(text)
    return Planted(replace(samples, labels=labels), rows, alike)


def look_alikes(symbols: str) -> dict[str, str]:
    """For each symbol the other one whose shape is most like its own, in one common font and scaled to one size."""
    shapes = np.stack([_shape(symbol) for symbol in symbols])
    likeness = shapes @ shapes.T
    np.fill_diagonal(likeness, -np.inf)
    return dict(zip(symbols, (symbols[i] for i in likeness.argmax(axis=1)), strict=True))


def _shape(symbol: str) -> NDArray[np.float32]:
    """A symbol's pixels, blurred a little, as a vector with mean 0 and length 1."""
    mask = cv2.resize(glyph(_FACE, _SIZE, symbol).mask.astype(np.float32), (24, 24))
    blurred = cv2.GaussianBlur(mask, (0, 0), 1.0)
    flat: NDArray[np.float32] = (blurred - blurred.mean()).ravel()
    return flat / np.linalg.norm(flat)


def _read_by_trained(planted: Planted, name: str, parameters: dict[str, Any], seed: int) -> Predictions:
    """What a model reads of each fold after training on the others, wrong labels included."""
    predictions: Predictions = []
    for fold in _FOLDS:
        train, validation = split_rest(planted.samples, fold, 0.1, seed + fold)
        recogniser = build_recogniser(name, planted.samples.info.spec, parameters)
        recogniser.fit(train, validation, seed=seed + fold)
        predictions += _read(recogniser, fold, [planted])
    return predictions


def _read_by_loaded(planted: Sequence[Planted], name: str, folder: Path) -> list[Predictions]:
    """What the models of a run read of the folds that they were not trained on; for each planting."""
    dataset = planted[0].samples.info.dataset
    paths = [folder / str(Cell(dataset, name, fold)) for fold in _FOLDS]
    by_fold = [list(_read(load_recogniser(path, read_saved(path)), f, planted)) for f, path in enumerate(paths)]
    return [list(cells) for cells in zip(*by_fold, strict=True)]


def _read(recogniser: Recogniser, fold: int, planted: Sequence[Planted]) -> Iterator[tuple[PredictionInfo, pa.Table]]:
    """The predictions for `fold`, as the predict stage writes them: once for each planting."""
    tests = [held_out(one.samples, fold) for one in planted]
    reading = recogniser.predict(tests[0].pixels)
    info = PredictionInfo.of(tests[0].info, recogniser.name, fold, recogniser.parameter_count)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{info.cell}.parquet"
        for test in tests:
            write_predictions(path, info, test, reading, recogniser.losses(test.pixels, test.labels))
            yield read_predictions(path)


def _row(
    group: Sequence[str], read: dict[str, list[Predictions]], planted: Sequence[Planted], right: Samples
) -> dict[str, Any]:
    """Counts over all plantings, for the suspects of a group of models."""
    names = {right.info.dataset: {sample_id: sample_id for sample_id in right.sample_ids}}
    listed, found, first, alike = 0, 0, 0, 0
    for number, one in enumerate(planted):
        table = suspects([cell for name in group for cell in read[name][number]], names)
        ids = table["sample_id"].to_list()
        listed += len(ids)
        found += int(one.found(ids).sum())
        alike += int((one.found(ids) & one.alike).sum())
        first += int(one.found(ids[: len(one.rows)]).sum())
    total = sum(len(one.rows) for one in planted)
    return {
        "models": list(group),
        "exact": [_share_right(read[name][0], right) for name in group],
        "planted": total,
        "listed": listed,
        "found": found,
        "precision": found / listed if listed else None,
        "recall": found / total,
        # As many as there are wrong labels: precision and recall are then equal.
        "first": first,
        "precision_first": first / total,
        "recall_alike": alike / sum(int(one.alike.sum()) for one in planted),
    }


def _share_right(cells: Predictions, samples: Samples) -> float:
    """Exact match with the true labels."""
    truth = dict(zip(samples.sample_ids, samples.labels, strict=True))
    flags = [
        truth[sample_id] == text
        for _, table in cells
        for sample_id, text in zip(table["sample_id"].to_pylist(), table["prediction"].to_pylist(), strict=True)
    ]
    return float(np.mean(flags))


def _table(rows: list[dict[str, Any]], result: dict[str, Any], count: int) -> Table:
    table = Table(
        title=f"{count} wrong labels among {result['images']:,} images of {result['dataset']} ({result['source']}), "
        f"replaced {result['labels_replaced']}, {result['rounds']} times"
    )
    columns = ("models", "exact", "listed", "precision", "recall", "recall, alike", "precision of as many")
    for column in columns:
        table.add_column(column, justify="left" if column == "models" else "right")
    for row in rows:
        exact = ", ".join(f"{share:.1%}" for share in row["exact"])
        precision = "–" if row["precision"] is None else f"{row['precision']:.2f}"
        shares = (f"{row[name]:.2f}" for name in ("recall", "recall_alike", "precision_first"))
        table.add_row(", ".join(row["models"]), exact, str(row["listed"]), precision, *shares)
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
