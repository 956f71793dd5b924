"""ddddocr and rapidocr-onnxruntime, which need no training, compared with our models on the same held-out images.

The images are those that our models held out: all folds of a finished run pooled, the ones that every model of a
dataset read. Without predictions of a dataset, the peers read all of its normalised images. All readers get the
original image files. Our texts are those of the predict stage. The peers read as their authors recommend:
DdddOcr(show_ad=False).classification(image), with its default and its beta model; RapidOCR()(image, use_det=False,
use_cls=False, use_rec=True), since the image is one line of text. White space is removed from what they read.

The peers were not trained on these images and read any site. Ours were trained on other images of the same dataset and
know its symbols. The column "known symbols" makes up for the latter. It is the exact match and the case-folded one,
after each symbol that the dataset does not have was replaced by its other case, or removed if the dataset does not
have that either.

Latency is from the encoded image to the text: one image at a time, one thread, CPU, the median of the same 200 images
after five to warm up. Readers run one after the other. It is the CPU time of the process, so that other work on the
machine does not count.

Size is that of a peer's weight file, and of one model folder of ours. In the column "reader", "union" marks a model
trained on all datasets.

Each peer has a separate environment in .peers/, which Git ignores. It is made once from the versions in
benchmarks/peers-PACKAGE.txt and needs the package index for that.
"""

import os
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import cv2
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import typer
from rich.table import Table
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.machine import machine
from benchmarks.originals import original_images
from benchmarks.peer_process import peer_environment, running_peer
from benchmarks.peer_worker import PEERS, Name
from benchmarks.results import default_path, finish, run, say
from captchabench.datasets import UNION, stage_name
from captchabench.errors import InputError
from captchabench.inference.loaded import load_recogniser
from captchabench.predictions.held_out import read_predictions
from captchabench.progress import tracked
from captchabench.samples.raw import read_info
from captchabench.samples.shards import read_info as read_shard_info
from captchabench.samples.shards import verified_files
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import wilson
from captchabench.scoring.metrics import cer
from captchabench.storage.files import write_text
from captchabench.studies.footprint import bytes_on_disk

_TIMED_IMAGES = 200
_WARM_UP = 5
_TEXT_COLUMNS = ("dataset", "source", "reader")
_NUMBER_COLUMNS = ("exact", "", "95 %", "case-folded", "known symbols", "CER", "latency", "size")


@dataclass(frozen=True)
class OurModel:
    """A model of ours: what it read, by sample_id, and the folder of one fold's weights."""

    folder: Path
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """The images of one dataset that all readers get: ids, labels and encoded images, N each.

    symbols: that the dataset has. held_out: whether a run held them out; else they are all of the dataset. left_out:
    how many not all models read.
    """

    dataset: str
    source: str
    symbols: frozenset[str]
    ids: list[str]
    labels: list[str]
    encoded: list[bytes]
    held_out: bool
    left_out: int


def main(
    datasets: Annotated[
        list[str] | None, typer.Option(help="A dataset to read; repeat for several; all of --data unless given.")
    ] = None,
    peers: Annotated[
        list[Name] | None, typer.Option(help="A peer to read with; repeat for several; all unless given.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Of each dataset at most, chosen by --seed; all unless given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice.")] = 0,
    data: Annotated[Path, typer.Option(help="The data folder of a run.")] = Path("data"),
    markdown: Annotated[Path | None, typer.Option(help="A file for the table as Markdown, to paste.")] = None,
    out: Annotated[Path | None, typer.Option(help="The JSON file; $OUT or reports/benchmarks unless given.")] = None,
) -> None:
    """Read the held-out images with other projects' recognisers and compare.

    For example, after `make repro`: python -m benchmarks.peers --datasets fournierp --images 200
    """
    # The latency is that of the CPU, as for the peers.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    cv2.setNumThreads(1)
    sets = []
    ours: dict[str, dict[str, OurModel]] = {}
    for key in datasets or _datasets_in(data):
        ours[key] = _our_models(data, key)
        sets.append(_images(data, key, ours[key], images, seed))
        say(f"{key}: {len(sets[-1].ids):,} images")
    names = list(dict.fromkeys(peers or Name))
    environments = {name: peer_environment(PEERS[name].package) for name in names}
    rows: list[dict[str, Any]] = []
    for chosen in sets:
        for name in names:
            rows.append(_peer_row(chosen, name, environments[name]))
        with threadpool_limits(1):
            rows += [_our_row(chosen, reader, model) for reader, model in ours[chosen.dataset].items()]
    result: dict[str, Any] = {
        "benchmark": "peers",
        "machine": {**machine(torch.device("cpu")), "threads": 1},
        "limit": images,
        "seed": seed,
        "timed_images": _TIMED_IMAGES,
        "environment_bytes": {PEERS[name].package: bytes_on_disk(environments[name]) for name in names},
        "rows": rows,
    }
    if markdown is not None:
        write_text(markdown, _markdown(rows))
    record = result["machine"]
    notes = [f"{record['processor']}, one thread, {record['date']}"]
    notes += [line for chosen in sets for line in _notes(chosen)]
    finish(out or default_path("peers"), result, notes, _table(rows))


def _datasets_in(data: Path) -> list[str]:
    """The datasets of texts that `data` has. Raises InputError if there are none."""
    keys = [path.stem for path in sorted((data / "raw").glob("*.parquet"))]
    texts = [key for key in keys if read_shard_info(data / "shards" / key).task == "text"]
    if not texts:
        raise InputError(f"{data / 'raw'}: holds no dataset of texts; run `make repro` first, or give --data")
    return texts


def _our_models(data: Path, dataset: str) -> dict[str, OurModel]:
    """What each model read of the held-out images of `dataset`, all folds pooled; models of the union too."""
    if read_shard_info(data / "shards" / dataset).task != "text":
        raise InputError(f"--datasets {dataset}: shows tiles, which the peers cannot read; name a dataset of texts")
    models: dict[str, OurModel] = {}
    # Files are sorted: the first fold's weights stand for all.
    files = (path for key in (dataset, UNION) for path in sorted((data / "predictions").glob(f"{key}-*.parquet")))
    for path in files:
        info, table = read_predictions(path)
        reader = info.model if info.dataset == dataset else f"{info.model}, {UNION}"
        model = models.setdefault(reader, OurModel(data / "models" / path.stem))
        rows = table.filter(pc.equal(table["dataset"], dataset))
        model.texts.update(zip(rows["sample_id"].to_pylist(), rows["prediction"].to_pylist(), strict=True))
    return models


def _images(data: Path, dataset: str, models: Mapping[str, OurModel], limit: int | None, seed: int) -> Images:
    """The images of `dataset` that all `models` held out, or all of it without models; at most `limit`."""
    raw = data / "raw" / f"{dataset}.parquet"
    source = read_info(raw).source
    labels: dict[str, str] = {}
    for part in verified_files(data / "shards" / dataset):
        table = pq.ParquetFile(part).read(["sample_id", "label"])
        labels.update(zip(table["sample_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    read = [model.texts.keys() for model in models.values()]
    common = sorted(set(labels).intersection(*read))
    if not common:
        raise InputError(f"{data / 'predictions'}: no image of {dataset} was read by all models; run `make repro`")
    left_out = len(set().union(*read)) - len(common) if read else 0
    if limit is not None and limit < len(common):
        common = sorted(np.random.default_rng(seed).choice(common, limit, replace=False).tolist())
    encoded = original_images(raw, frozenset(common))
    if missing := len(common) - len(encoded):
        raise InputError(
            f"{raw}: lacks {missing} images of the shards; run `dvc repro {stage_name('normalize', dataset)}`"
        )
    return Images(
        dataset,
        source,
        frozenset(read_shard_info(data / "shards" / dataset).alphabet),
        common,
        [labels[key] for key in common],
        [encoded[key] for key in common],
        bool(models),
        left_out,
    )


def _peer_row(chosen: Images, name: Name, environment: Path) -> dict[str, Any]:
    """What a peer reads, and how fast."""
    peer = PEERS[name]
    say(f"{chosen.dataset}: {name}")
    with running_peer(name, environment) as process:
        for encoded in chosen.encoded[:_WARM_UP]:
            process.read(encoded)
        count = len(chosen.encoded)
        answers = [process.read(one) for one in tracked(chosen.encoded, count, f"{chosen.dataset}, {name}")]
    texts = ["".join(answer.text.split()) for answer in answers]
    reader = f"{peer.package} {process.version}{peer.title}"
    scores = _scores(chosen, reader, texts, [answer.seconds for answer in answers[:_TIMED_IMAGES]])
    return {**scores, "bytes": process.bytes, "unread": sum(answer.failed for answer in answers)}


def _our_row(chosen: Images, reader: str, model: OurModel) -> dict[str, Any]:
    """What a model of ours read, and how fast it reads."""
    say(f"{chosen.dataset}: {reader}")
    loaded = load_recogniser(model.folder)
    durations = []
    for index, encoded in enumerate([*chosen.encoded[:_WARM_UP], *chosen.encoded[:_TIMED_IMAGES]]):
        started = time.process_time()
        loaded.predict([encoded])
        if index >= _WARM_UP:
            durations.append(time.process_time() - started)
    scores = _scores(chosen, reader, [model.texts[key] for key in chosen.ids], durations)
    return {**scores, "bytes": bytes_on_disk(model.folder), "unread": 0}


def _scores(chosen: Images, reader: str, texts: Sequence[str], durations: Sequence[float]) -> dict[str, Any]:
    unsure = np.zeros(len(texts))
    counts = Counts.of(chosen.labels, texts, unsure, None)
    known = Counts.of(chosen.labels, [_known_symbols(text, chosen.symbols) for text in texts], unsure, None)
    low, high = wilson(counts.exact, counts.n)
    return {
        "dataset": chosen.dataset,
        "source": chosen.source,
        "held_out": chosen.held_out,
        "reader": reader,
        "images": counts.n,
        "exact": counts.exact,
        "exact_low": low,
        "exact_high": high,
        "exact_folded": counts.exact_folded,
        "known_symbols_exact": known.exact,
        "known_symbols_exact_folded": known.exact_folded,
        "cer": cer(counts),
        "latency_median_ms": 1e3 * median(durations),
    }


def _known_symbols(text: str, symbols: Container[str]) -> str:
    """`text` without what is not in `symbols`; a letter that is there in its other case only takes that case."""
    cased = (symbol if symbol in symbols else symbol.swapcase() for symbol in text)
    return "".join(symbol for symbol in cased if symbol in symbols)


def _notes(chosen: Images) -> list[str]:
    if not chosen.held_out:
        return [f"{chosen.dataset}: no predictions of ours; the peers read all of its images"]
    if chosen.left_out:
        return [f"{chosen.dataset}: {chosen.left_out:,} images left out, since not every model held them out"]
    return []


def _cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table, one text per column."""

    def percent(key: str) -> str:
        return f"{100 * row[key] / row['images']:.1f} %"

    unread = f" ({row['unread']} not read)" if row["unread"] else ""
    return [
        row["dataset"],
        row["source"],
        row["reader"] + unread,
        f"{row['exact']:,} of {row['images']:,}",
        percent("exact"),
        f"{100 * row['exact_low']:.1f}–{100 * row['exact_high']:.1f}",
        percent("exact_folded"),
        f"{percent('known_symbols_exact')} / {percent('known_symbols_exact_folded')}",
        f"{100 * row['cer']:.1f} %",
        f"{row['latency_median_ms']:.1f} ms",
        f"{row['bytes'] / 1e6:.1f} MB",
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="the same images, read by peers and by our models")
    for column in _TEXT_COLUMNS:
        table.add_column(column)
    for column in _NUMBER_COLUMNS:
        table.add_column(column, justify="right")
    last = {row["dataset"]: index for index, row in enumerate(rows)}
    for index, row in enumerate(rows):
        table.add_row(*_cells(row), end_section=index == last[row["dataset"]])
    return table


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    rule = ["---"] * len(_TEXT_COLUMNS) + ["--:"] * len(_NUMBER_COLUMNS)
    lines = [[*_TEXT_COLUMNS, *_NUMBER_COLUMNS], rule, *(_cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    run(main, __doc__ or "")
