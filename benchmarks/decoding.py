"""Accuracy and speed of decoding: greedy or beam search, with and without the length prior.

The trained models read their held-out images with each way of decoding; nothing is trained. The length prior excludes
texts shorter or longer than the dataset's labels, whose lengths anyone can see. Images per second include the network.
McNemar's exact test compares each way with greedy decoding on the same images.
"""

import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from scipy.stats import binomtest

from benchmarks.machine import machine
from benchmarks.results import default_path, finish, run, say
from captchabench.cells.split import held_out
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.models.neural import CTCRecogniser
from captchabench.models.saved import read_config
from captchabench.networks.device import choose_device
from captchabench.samples.shards import read_samples

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"method": "beam"},
    "greedy, length": {"length_prior": True},
    "beam, length": {"method": "beam", "length_prior": True},
    "greedy, length, shifts": {"length_prior": True, "shift_average": True},
}


def main(
    models: Annotated[Path, typer.Option(help="The folder of trained models, DATASET-MODEL-FOLD/.")] = Path(
        "data/models"
    ),
    shards: Annotated[Path, typer.Option(help="The folder of shards, DATASET/.")] = Path("data/shards"),
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Compare ways of decoding on every trained CTC model; folds are pooled.

    For example, after `make repro`: python -m benchmarks.decoding
    """
    # (dataset, model) -> way -> whether each image was read right, over all folds.
    right: dict[tuple[str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    durations: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for folder in sorted(models.glob("*-*-*")):
        dataset, name, fold = folder.name.split("-")
        if not (shards / dataset).is_dir():
            continue
        config = read_config(folder)
        spec, parameters = config.about.spec, config.parameters
        if not isinstance(build_recogniser(name, spec, parameters), CTCRecogniser):
            continue
        say(folder.name)
        samples = held_out(read_samples(shards / dataset), int(fold))
        for way, decoding in WAYS.items():
            recogniser = build_recogniser(name, spec, {**parameters, "decoding": decoding})
            recogniser.load_weights(folder)
            recogniser.predict(samples.pixels[:8])
            started = time.perf_counter()
            texts = recogniser.predict(samples.pixels).texts
            durations[dataset, name][way] += time.perf_counter() - started
            right[dataset, name][way] += [a == b for a, b in zip(texts, samples.labels, strict=True)]
    if not right:
        raise InputError(f"{models}: holds no trained CTC model of a dataset in {shards}; run `make repro` first")
    rows = [_row(*key, way, right[key], durations[key]) for key in right for way in WAYS]
    result = {"benchmark": "decoding", "machine": machine(choose_device()), "rows": rows}
    notes = [f"{result['machine']}"]
    finish(out or default_path("decoding"), result, notes, _table(rows))


def _row(
    dataset: str, model: str, way: str, right: dict[str, list[bool]], durations: dict[str, float]
) -> dict[str, Any]:
    this, greedy = np.array(right[way]), np.array(right["greedy"])
    gained, lost = int((this & ~greedy).sum()), int((greedy & ~this).sum())
    return {
        "dataset": dataset,
        "model": model,
        "decoding": way,
        "images": len(this),
        "exact": int(this.sum()),
        "gained": gained,
        "lost": lost,
        "p_value": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        "images_per_second": len(this) / durations[way],
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="exact match by decoding, held-out images")
    for column in ("dataset", "model", "decoding", "exact", "", "gained", "lost", "p", "images/s"):
        table.add_column(column, justify="left" if column in ("dataset", "model", "decoding") else "right")
    for row in rows:
        table.add_row(
            row["dataset"],
            row["model"],
            row["decoding"],
            f"{row['exact']:,} of {row['images']:,}",
            f"{row['exact'] / row['images']:.2%}",
            str(row["gained"]),
            str(row["lost"]),
            f"{row['p_value']:.2g}",
            f"{row['images_per_second']:,.0f}",
            end_section=row["decoding"] == list(WAYS)[-1],
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
