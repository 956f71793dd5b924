"""Thousands of hostile images, archives, params files and models, each read or refused in one line, in bounded time.

`python -m tests.chaos.fuzz_inputs --images 10000 --archives 1000 --params 1000 --models 1000 --seed 0`

Images go through the decoder one by one, then through the normaliser all together: each must be kept, or be in the list
of rejects with a reason. Archives are opened, read and written as raw files. Params files are loaded, and every
recogniser that they change is built. Models, as folders and as exports, are loaded and read two images. This happens in
a child process. It is killed if an item takes longer than --limit seconds, and may use --memory MiB more than it has at
the start.

Item i of a kind depends only on the seed, the kind and i. --keep FOLDER keeps the items that fail. Exit code 1 if any
item ended in a traceback, a crash or a hang, or is missing from the results. --archive PATH also damages the real
images of an archive.
"""

import argparse
import csv
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

from tests.chaos import mutations
from tests.chaos.fuzz_readers import check_line

ROOT = Path(__file__).parents[2]
DATASET = "parsasam"
PATIENCE_SECONDS = 600  # for work without a limit per item: imports, and normalising all images


def read_image(encoded: bytes) -> str:
    """The verdict on an image: kept or rejected."""
    from captchabench.normalize.images import decode_grey
    from captchabench.normalize.rejects import Rejected

    try:
        decode_grey(encoded)
    except Rejected as error:
        check_line(error)
        return f"rejected: {error.reason}"
    return "kept"


def read_archive(item: tuple[str, bytes]) -> str:
    """The verdict on an archive (suffix, bytes), read as in `python -m stages.ingest`."""
    import pyarrow.parquet as pq

    from captchabench.errors import InputError
    from captchabench.samples.raw import RawInfo, read_info, write_raw
    from captchabench.sources.archives import open_archive
    from captchabench.sources.opening import ArchiveSource

    suffix, content = item
    with tempfile.TemporaryDirectory() as folder:
        path, raw = Path(folder, f"a{suffix}"), Path(folder, f"{DATASET}.parquet")
        path.write_bytes(content)
        try:
            source = ArchiveSource(open_archive(path), "all", 0)
            info = RawInfo(DATASET, "archive", 1, source.available, source.skipped)
            total = write_raw(raw, info, source.entries())
        except InputError as error:
            check_line(error)
            assert not raw.exists()
            return f"refused: {_kind(error)}"
        assert read_info(raw) == info
        assert total == source.total == pq.read_table(raw).num_rows
    return "read"


def read_params(content: bytes) -> str:
    """The verdict on a params file: it is loaded, and the recognisers that it changes are built."""
    from captchabench.config import load_params
    from captchabench.errors import InputError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_bytes(content)
        try:
            params = load_params(path)
        except InputError as error:
            check_line(error)
            return f"refused: {_kind(error)}"
    try:
        for model, dataset in _pairs(params):
            _build(model, dataset, params)
    except InputError as error:
        check_line(error)
        return f"refused when built: {_kind(error)}"
    return "accepted"


def read_model(files: dict[str, bytes]) -> str:
    """The verdict on a model (files of its folder by name, or an export): it is loaded and reads two images."""
    import numpy as np

    from captchabench.errors import InputError
    from captchabench.inference.loaded import load_recogniser, read_about

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        exported = next((folder / file for file in files if file.endswith(".onnx")), None)
        try:
            if exported is None:
                json.dumps(asdict(read_about(folder)), ensure_ascii=False).encode()
            loaded = load_recogniser(exported or folder)
            images = np.random.default_rng(0).integers(0, 256, (2, 30, 90), np.uint8)
            for prediction in loaded.predict(images, top_k=2):
                prediction.text.encode()
                assert 0 <= prediction.confidence <= 1
            loaded.explain(images[:1])
        except InputError as error:
            check_line(error)
            return f"refused: {_kind(error)}"
    return "read"


def _pairs(params: Any) -> list[tuple[str, str]]:
    """Pairs (model, dataset): each model of the matrix with one dataset of its task and those that override it."""
    pairs = []
    matrix = params.matrix
    texts, tiles = (matrix.datasets, (*matrix.models, *matrix.union)), (matrix.tiles.datasets, matrix.tiles.models)
    for datasets, models in (texts, tiles):
        for model in dict.fromkeys(models):
            pairs += [(model, d) for i, d in enumerate(datasets) if i == 0 or model in params.datasets[d].models]
    return pairs


def _build(model: str, dataset: str, params: Any) -> None:
    from captchabench.datasets import DATASETS
    from captchabench.samples.shards import TextSpec

    declared = DATASETS[dataset]
    rows = 3 if declared.task == "grid" else 1
    size = params.tiles if declared.task == "grid" else params.normalize
    spec = TextSpec(declared.alphabet, declared.min_length, declared.max_length, size.height, size.width, rows)
    _built(model, spec, repr(params.of_model(model, dataset)), _Held(params.of_model(model, dataset)))


class _Held:
    """Parameters that are always equal for the cache below, which compares their text instead."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@cache
def _built(model: str, spec: Any, text: str, held: _Held) -> int:
    from captchabench.models import build_recogniser

    return build_recogniser(model, spec, held.parameters).parameter_count


def normalise_all(entries: list[tuple[str, bytes]]) -> tuple[int, int, Counter[str], list[str]]:
    """(read, kept, rejects by reason, paths without a valid reason) of named images, from the real normaliser."""
    from captchabench.config import NormalizeParams
    from captchabench.datasets import DATASETS
    from captchabench.normalize.rejects import Reason
    from captchabench.normalize.texts import normalize
    from captchabench.samples.raw import Entry, RawInfo, write_raw

    dataset = DATASETS[DATASET]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        info = RawInfo(DATASET, "archive", dataset.version, len(entries), {})
        write_raw(folder / "raw.parquet", info, (Entry(*entry) for entry in entries))
        places = (folder / "shards" / DATASET, folder / "rejects.csv")
        figures = normalize(dataset, folder / "raw.parquet", NormalizeParams(max_rejected=1.0), 2, *places, 1)
        with (folder / "rejects.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        lines = (folder / "rejects.csv").read_bytes().count(b"\n")
    assert lines == len(rows) + 1
    assert Counter(row["reason"] for row in rows) == Counter(figures["rejected"])
    unknown = [row["path"] for row in rows if row["reason"] not in set(Reason) or not row["detail"]]
    return figures["images_read"], figures["kept"], Counter(row["reason"] for row in rows), unknown


TASKS: dict[str, Callable[[Any], Any]] = {
    task.__name__: task for task in (read_image, read_archive, read_params, read_model, normalise_all)
}


def _kind(error: Exception) -> str:
    """An error message without the names and numbers of the case."""
    output = re.sub(r"\(.*\)", "", re.sub(r"'[^']*'", "X", str(error))).split("; ")[0]
    words = re.sub(r"-?\d[\d.,]*", "N", output.split(": ")[-1]).split()
    return " ".join(words[:7])


def _serve(connection: Connection, words: str, memory: int) -> None:
    """The child process: runs the tasks that it receives and sends back their results. words: file for its stderr."""
    with Path(words).open("ab") as file:
        os.dup2(file.fileno(), 2)
    os.environ["HF_HUB_OFFLINE"] = "1"
    limited = False
    while True:
        name, item = connection.recv()
        started = time.perf_counter()
        try:
            verdict = TASKS[name](item)
        # Any other exception would be a traceback for a user.
        except Exception as error:
            verdict = f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"
        seconds = time.perf_counter() - started
        if not limited:
            limited = True
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + (memory << 20),) * 2)
        connection.send((verdict, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))


class Child:
    """A process that runs tasks and is replaced if it hangs or dies. words: file for its standard error."""

    def __init__(self, words: Path, memory: int) -> None:
        self._words = words
        self._memory = memory
        self._process: Any = None
        self.peak = 0

    def __call__(self, name: str, item: Any, limit: float, first: Any = None) -> tuple[Any, float]:
        """(verdict, seconds) of a task. first: the task of a new child before it, to do all imports."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(other, str(self._words), self._memory), daemon=True)
            self._process.start()
            other.close()
            if first is not None:
                self(name, first, PATIENCE_SECONDS)
        started = time.perf_counter()
        try:
            self._connection.send((name, item))
            if self._connection.poll(limit):
                verdict, seconds, peak = self._connection.recv()
                self.peak = max(self.peak, peak)
                return verdict, seconds
            verdict = f"HANG: more than {limit:g} s"
        except (EOFError, OSError):
            self._process.join(10)
            verdict = f"CRASH: exit code {self._process.exitcode}"
        self.close()
        return verdict, time.perf_counter() - started

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


@dataclass
class Tally:
    """The verdicts on the items of one kind."""

    kind: str
    verdicts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak: int = 0

    def add(self, number: int, verdict: str, seconds: float) -> None:
        failed = verdict.split(":")[0].split()[0] in ("TRACEBACK", "HANG", "CRASH")
        self.verdicts[verdict[:100] if failed else verdict] += 1
        if failed:
            self.failed.append((number, verdict))
        self.slowest = max(self.slowest, (seconds, number))

    def show(self) -> None:
        print(f"\n{self.kind}: {sum(self.verdicts.values()):,} tried, {len(self.failed)} failed")
        for verdict, count in sorted(self.verdicts.items(), key=lambda pair: (-pair[1], pair[0])):
            print(f"  {count:7,}  {verdict}")
        seconds, number = self.slowest
        print(f"  slowest: item {number}, {seconds:.2f} s; peak memory of the process {self.peak} MiB")


@dataclass(frozen=True)
class Campaign:
    """How many items of each kind. archive: real images to add. keep: folder for failing items."""

    images: int
    archives: int
    params: int
    models: int
    seed: int
    limit: float = 10.0
    memory: int = 2048
    archive: Path | None = None
    keep: Path | None = None


def run(campaign: Campaign) -> tuple[list[Tally], list[str]]:
    """The tallies, and other problems: missing images, control characters in the output."""
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder, "stderr")
        words.touch()
        child = Child(words, campaign.memory)
        try:
            tallies, wrong = _run(campaign, child)
        finally:
            child.close()
        output = words.read_text("utf-8", "backslashreplace").replace("\n", "").replace("\t", "")
    if not output.isprintable():
        wrong.append(f"written to the terminal: {[c for c in set(output) if not c.isprintable()]}")
    return tallies, wrong


def _run(campaign: Campaign, child: Child) -> tuple[list[Tally], list[str]]:
    tallies, wrong = [], []
    if campaign.images:
        entries = list(_images(campaign))
        tallies.append(_feed(campaign, child, "images", "read_image", [content for _, content in entries]))
        # Hangs and crashes have been recorded, and would end the child that normalises all.
        failed = {number for number, _ in tallies[0].failed}
        result, seconds = child(
            "normalise_all", [e for i, e in enumerate(entries) if i not in failed], PATIENCE_SECONDS
        )
        if isinstance(result, str):
            return tallies, [f"normaliser: {result}"]
        read, kept, rejected, unknown = result
        print(f"normaliser: {read:,} read, {kept:,} kept, {rejected.total():,} rejected in {seconds:.1f} s:")
        print("".join(f"  {count:7,}  {reason}\n" for reason, count in rejected.most_common()), end="")
        if not kept + rejected.total() == read == len(entries) - len(failed):
            wrong.append(f"normaliser: {kept} kept and {rejected.total()} rejected of {read}, {len(entries)} given")
        wrong += [f"normaliser: no reason for {path}" for path in unknown]
    if campaign.archives:
        tallies.append(_feed(campaign, child, "archives", "read_archive", _archives(campaign)))
    if campaign.params:
        text = (ROOT / "params.yaml").read_text(encoding="utf-8")
        bases = (text, _spelt_out(text))
        items = (mutations.mutated_params(_rng(campaign, "params", i), bases[i % 2]) for i in range(campaign.params))
        # Until here the child has only the imports for images.
        child.close()
        tallies.append(_feed(campaign, child, "params", "read_params", items, text.encode()))
    if campaign.models:
        from tests.chaos import hostile_models

        models = (hostile_models.mutated_model(_rng(campaign, "models", i)) for i in range(campaign.models))
        child.close()
        # This imports torch and ONNX Runtime.
        first = next(files for files in hostile_models.sound() if hostile_models.EXPORT in files)
        tallies.append(_feed(campaign, child, "models", "read_model", models, first))
    return tallies, wrong


def _feed(campaign: Campaign, child: Child, kind: str, task: str, items: Iterable[Any], first: Any = None) -> Tally:
    tally = Tally(kind)
    child.peak = 0
    shown = time.monotonic()
    for number, item in enumerate(items):
        verdict, seconds = child(task, item, campaign.limit, first)
        tally.add(number, str(verdict), seconds)
        if tally.failed and tally.failed[-1][0] == number and campaign.keep:
            campaign.keep.mkdir(parents=True, exist_ok=True)
            if isinstance(item, dict):
                item = ("", repr(item).encode())
            suffix, content = item if isinstance(item, tuple) else ("", item)
            (campaign.keep / f"{kind}-{campaign.seed}-{number}{suffix}").write_bytes(content)
        if sys.stderr.isatty() and time.monotonic() - shown > 1:
            shown = time.monotonic()
            print(f"\r{kind} {number}", end="\r", file=sys.stderr)
    tally.peak = child.peak
    return tally


def _rng(campaign: Campaign, kind: str, number: int) -> random.Random:
    return random.Random(f"{campaign.seed}/{kind}/{number}")


def _images(campaign: Campaign) -> Iterable[tuple[str, bytes]]:
    """(path, bytes) of damaged images. Most are named like those of the dataset."""
    from captchabench.datasets import DATASETS

    symbols = DATASETS[DATASET].alphabet.symbols
    bases = mutations.pictures(_rng(campaign, "bases", 0))
    if campaign.archive:
        from captchabench.sources.archives import open_archive
        from captchabench.sources.opening import ArchiveSource

        result = list(ArchiveSource(open_archive(campaign.archive), 300, campaign.seed).entries())
        bases += [(entry.path.rsplit(".", 1)[1], entry.encoded) for entry in result]
    others = [encoded for _, encoded in bases]
    for i in range(campaign.images):
        rng = _rng(campaign, "images", i)
        suffix, encoded = rng.choice(bases)
        name = "".join(rng.choices(symbols, k=5))
        if rng.random() < 0.1:
            suffix = rng.choice(("png", "jpg", "gif", "PNG", "tiff"))
        path = f"{i:06d}/{name}.{suffix}"
        if rng.random() < 0.02:
            with suppress(UnicodeEncodeError):
                odd = rng.choice(mutations.NAMES)
                odd.encode()
                path = f"{i:06d}/{odd}"
        yield path, mutations.mutated_image(rng, encoded, others)


def _spelt_out(text: str) -> str:
    """The same parameters, with all defaults of every model written out."""
    from captchabench.config import merged
    from captchabench.models import RECOGNISERS

    document = yaml.safe_load(text)
    defaults = {name: asdict(RECOGNISERS[name].config_class()) for name in document["models"]}
    return yaml.safe_dump({**document, "models": merged(_plain(defaults), document["models"])}, sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _archives(campaign: Campaign) -> Iterable[tuple[str, bytes]]:
    sound = mutations.packed(_rng(campaign, "bases", 1))
    for i in range(campaign.archives):
        rng = _rng(campaign, "archives", i)
        suffix = rng.choice(list(sound))
        yield suffix, mutations.mutated_archive(rng, suffix, sound[suffix])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, usual in (("images", 10_000), ("archives", 1000), ("params", 1000), ("models", 1000), ("seed", 0)):
        parser.add_argument(f"--{kind}", type=int, default=usual)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds per item")
    parser.add_argument(
        "--memory", type=int, default=2048, help="MiB that the process may use beyond its size at the start"
    )
    parser.add_argument("--archive", type=Path, help="an archive whose images are damaged as well")
    parser.add_argument("--keep", type=Path, help="folder for items that fail")
    campaign = Campaign(**vars(parser.parse_args()))
    started = time.perf_counter()
    tallies, wrong = run(campaign)
    for tally in tallies:
        tally.show()
        for number, verdict in tally.failed[:20]:
            print(f"  item {number}: {verdict}")
    print(*wrong, sep="\n")
    failures = sum(len(tally.failed) for tally in tallies) + len(wrong)
    print(f"\nseed {campaign.seed}: {failures} failures in {time.perf_counter() - started:.0f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
