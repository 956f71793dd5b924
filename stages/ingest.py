"""ingest D: an archive, Kaggle or drawn stand-ins -> data/raw/D.parquet, bytes and labels unchanged."""

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
    other_kind = matrix.datasets if dataset.task == "grid" else matrix.tiles.datasets
    if name in other_kind:
        wrong, right = ("datasets", "tiles.datasets") if dataset.task == "grid" else ("tiles.datasets", "datasets")
        kind = "tiles" if dataset.task == "grid" else "texts"
        raise InputError(f"params.yaml: matrix.{wrong}: '{name}' is a dataset of {kind}; name it in matrix.{right}")
    limit = params.datasets[name].images
    data = replace(params.data, source=params.tiles.source) if dataset.task == "grid" else params.data
    source = open_source(dataset, data, limit)
    info = RawInfo(name, data.source, dataset.version, source.available, source.skipped)
    entries = tracked(source.entries(), source.total, f"ingest {name}")
    total = write_raw(Path(f"data/raw/{name}.parquet"), info, entries, dataset.raw_label)
    fewer = f", though datasets.{name}.images asks for {limit:,}" if limit != "all" and total < limit else ""
    skipped = "".join(f", {number:,} files skipped ({reason})" for reason, number in source.skipped.items())
    print(f"{name}: {total:,} of {source.available:,} images from {data.source}{fewer}{skipped}")


if __name__ == "__main__":
    run(main)
