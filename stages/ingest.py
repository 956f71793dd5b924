"""ingest D: an archive, Kaggle or the drawn stand-in -> data/raw/D.parquet, bytes and labels as found."""

from dataclasses import replace
from pathlib import Path

from captchabench.config import load_params
from captchabench.datasets import DATASETS
from captchabench.errors import InputError
from captchabench.progress import tracked
from captchabench.registry import did_you_mean
from captchabench.samples.raw import RawInfo, write_raw
from captchabench.sources.opening import open_source
from stages import run


def main(name: str) -> None:
    dataset = DATASETS[name]
    params = load_params()
    if name not in params.datasets:
        raise InputError(f"params.yaml: datasets.{name}: missing; {did_you_mean(name, params.datasets)}")
    matrix = params.matrix
    wrong = matrix.datasets if dataset.task == "grid" else matrix.tiles.datasets
    if name in wrong:
        here, there = ("datasets", "tiles.datasets") if dataset.task == "grid" else ("tiles.datasets", "datasets")
        kind = "tiles" if dataset.task == "grid" else "texts"
        raise InputError(f"params.yaml: matrix.{here}: '{name}' is a dataset of {kind}; name it in matrix.{there}")
    asked = params.datasets[name].images
    data = replace(params.data, source=params.tiles.source) if dataset.task == "grid" else params.data
    source = open_source(dataset, data, asked)
    info = RawInfo(name, data.source, dataset.version, source.available, source.skipped)
    entries = tracked(source.entries(), source.total, f"ingest {name}")
    total = write_raw(Path(f"data/raw/{name}.parquet"), info, entries, dataset.raw_label)
    fewer = f", though datasets.{name}.images asks for {asked:,}" if asked != "all" and total < asked else ""
    skipped = "".join(f", {number:,} files skipped ({reason})" for reason, number in source.skipped.items())
    print(f"{name}: {total:,} of {source.available:,} images from {data.source}{fewer}{skipped}")


if __name__ == "__main__":
    run(main)
