"""ingest D: an archive, Kaggle, drawn stand-ins or own images -> data/raw/D.parquet, bytes and labels unchanged."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from captchabench.config import load_params
from captchabench.datasets.declared import find_dataset
from captchabench.errors import InputError
from captchabench.labels.source import open_labelled
from captchabench.progress import tracked
from captchabench.registry import did_you_mean
from captchabench.samples.raw import RawInfo, Source, write_raw
from captchabench.sources.opening import open_source
from stages import run


def main(name: str) -> None:
    params = load_params()
    dataset = find_dataset(name, params)
    if name not in params.datasets:
        raise InputError(f"params.yaml: datasets.{name}: missing; {did_you_mean(name, params.datasets)}")
    matrix = params.matrix
    other_kind = matrix.datasets if dataset.task == "grid" else matrix.tiles.datasets
    if name in other_kind:
        wrong, right = ("datasets", "tiles.datasets") if dataset.task == "grid" else ("tiles.datasets", "datasets")
        kind = "tiles" if dataset.task == "grid" else "texts"
        raise InputError(f"params.yaml: matrix.{wrong}: '{name}' is a dataset of {kind}; name it in matrix.{right}")
    limit = params.datasets[name].images
    source: Source
    if dataset.path:
        source = own = open_labelled(dataset, limit, params.data.seed)
        info = RawInfo(name, "archive", dataset.version, own.available, own.skipped, own.rule, own.rejects)
        place = f"{dataset.path}, labels by {own.rule}"
    else:
        data = replace(params.data, source=params.tiles.source) if dataset.task == "grid" else params.data
        source = open_source(dataset, data, limit)
        info = RawInfo(name, data.source, dataset.version, source.available, source.skipped)
        place = data.source
    entries = tracked(source.entries(), source.total, f"ingest {name}")
    total = write_raw(Path(f"data/raw/{name}.parquet"), info, entries, dataset.raw_label)
    fewer = f", though datasets.{name}.images asks for {limit:,}" if limit != "all" and total < limit else ""
    unused = Counter(reject.reason for reject in info.rejects)
    rejected = "".join(f", {number:,} {reason}" for reason, number in sorted(unused.items()))
    skipped = "".join(f", {number:,} files skipped ({reason})" for reason, number in source.skipped.items())
    print(f"{name}: {total:,} of {source.available:,} images from {place}{fewer}{rejected}{skipped}")


if __name__ == "__main__":
    run(main)
