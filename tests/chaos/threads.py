"""Runs every stage again with other threads and environments, and checks that the outputs have the same bytes.

    python -m tests.chaos.threads                                  # small: all five models, half an hour
    python -m tests.chaos.threads --finished FOLDER --only threads # the stages of a finished run, one by one

A small real benchmark (drawn stand-ins, all five models, a union, grids of tiles) is run once, on one core with one
thread. With --finished FOLDER a copy of a finished repository is used instead. Then each stage runs again from the same
inputs: on other cores, with other numbers of threads (OpenMP, OpenBLAS, MKL, polars, Arrow), locales, time zones, hash
seeds, names of the folder and umasks. All outputs except timings are compared byte by byte. Locales that the machine
lacks are made with localedef.

Finally the same images must give the same shards from a zip archive, from one with other times and another order, from
tar archives and from a folder. Exit code 1 if anything differs.
"""

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from captchabench.datasets import DATASETS
from tests.chaos.small import MODELS, ROOT, Benchmark

NUMBERS6 = DATASETS["numbers6"]
_TIMINGS = ("data/timings/", "data/latency")
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS", "ARROW_IO_THREADS",
)  # fmt: skip
_SURROUNDINGS = (*_THREADS, "LC_ALL", "LANG", "LC_CTYPE", "PYTHONHASHSEED", "PYTHONUTF8", "TZ")


@dataclass(frozen=True)
class Variant:
    """How stages are run. cores: how many they may use; 0 for all. folder: name of the copy. kind: for --only."""

    name: str
    kind: str
    cores: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    folder: str = "copy"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml. outs: the paths of its outputs."""

    name: str
    command: str
    outs: tuple[str, ...]

    @property
    def compared(self) -> tuple[str, ...]:
        """The paths of its outputs except timings."""
        return tuple(out for out in self.outs if not out.startswith(_TIMINGS))


def threads(count: int) -> dict[str, str]:
    """Variables that set `count` threads for all libraries."""
    return dict.fromkeys(_THREADS, str(count))


def variants(locales: Path) -> list[Variant]:
    """The variants to try after the first run, which has one core and one thread."""
    one = threads(1)
    made = [
        Variant("again", "threads", 1, one),
        Variant("1 core, 4 threads", "threads", 1, threads(4)),
        Variant("4 cores, 1 thread", "threads", 4, one),
        Variant("4 cores, 4 threads", "threads", 4, threads(4)),
        Variant("3 cores, 3 threads", "threads", 3, threads(3)),
        Variant("all cores, no thread settings", "threads"),
        Variant("ASCII", "locale", 1, {**one, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        Variant("time zone and umask", "place", 1, {**one, "TZ": "Pacific/Kiritimati"}, umask=0o077),
        Variant("hash seed 0", "place", 1, {**one, "PYTHONHASHSEED": "0"}),
        Variant("hash seed 1, folder", "place", 1, {**one, "PYTHONHASHSEED": "1"}, folder="Größe, mit Leerzeichen"),
    ]
    for name in ("tr_TR.UTF-8", "de_DE.UTF-8"):
        if _has_locale(name, locales):
            own = {**one, "LC_ALL": name, "LOCPATH": str(locales)}
            made.append(Variant(name, "locale", 1, own))
        else:
            print(f"{name}: is not installed and cannot be made; left out")
    return made


def stages_of(folder: Path) -> list[Stage]:
    """The stages of the repository in topological order."""
    import networkx as nx  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]

    with Repo(str(folder)) as repo:
        graph = repo.index.graph
        order = [one for one in nx.dfs_postorder_nodes(graph) if one.cmd]
        made = []
        for one in order:
            outs = tuple(Path(out.fs_path).relative_to(folder).as_posix() for out in one.outs)
            made.append(Stage(one.name, str(one.cmd), outs))
        return made


class Copy:
    """A copy of a repository, in which single stages are run again in a variant."""

    def __init__(self, source: Path, target: Path, variant: Variant) -> None:
        self.source, self.folder = source, target
        ignore = shutil.ignore_patterns(".venv", "cache", "__pycache__", ".prefect", "scratch")
        shutil.copytree(source, target, ignore=ignore, symlinks=True)
        environment = {name: value for name, value in os.environ.items() if name not in _SURROUNDINGS}
        environment |= {"PYTHONPATH": f"{target}{os.pathsep}{ROOT}", "LC_ALL": "C.UTF-8", **variant.environment}
        cores = sorted(os.sched_getaffinity(0))

        def prepare() -> None:
            os.umask(variant.umask)
            os.sched_setaffinity(0, cores[: variant.cores or len(cores)])

        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.forking"],
            cwd=target,
            env=environment,
            preexec_fn=prepare,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()
        shutil.rmtree(self.folder)

    def run(self, stage: Stage) -> str:
        """Run a stage and restore the copy. Returns "" if its outputs equal the source's, else the problem."""
        for out in stage.outs:
            _remove(self.folder / out)
        code, output = self.call(stage.command)
        if code:
            problem = f"exit code {code}: {output}"
        else:
            problem = ", ".join(
                out for out in stage.compared if _content(self.source / out) != _content(self.folder / out)
            )
        for out in stage.outs:
            _remove(self.folder / out)
            _copy(self.source / out, self.folder / out)
        return problem

    def call(self, command: str) -> tuple[int, str]:
        """Run `python -m MODULE ARGUMENTS`. Returns its exit code and its last line."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(command.split()[2:]) + "\n")
        self._server.stdin.flush()
        code, output = json.loads(self._server.stdout.readline())
        return int(code), str(output)


def make_small(folder: Path) -> Path:
    """Run a small benchmark in `folder` on one core with one thread."""
    made = Benchmark(
        folder,
        datasets={"numbers6": {"images": 300}, "grid": {"images": 900}},
        matrix={
            "datasets": ["numbers6"],
            "models": list(MODELS),
            "union": ["hog_svc"],
            "tiles": {"datasets": ["grid"], "models": ["char_cnn"]},
            "folds": [0],
        },
        models=MODELS,
        probe={"images": 20},
    )
    environment = made.environment(**threads(1), LC_ALL="C.UTF-8")
    made.call("taskset", "-c", "0", sys.executable, "-m", "dvc", "repro", environment=environment)
    return folder


def repeat(source: Path, workplace: Path, tried: Sequence[Variant], words: Sequence[str]) -> list[str]:
    """Run every stage whose name contains one of `words`, in every variant. Returns the differences."""
    stages = [
        one for one in stages_of(source) if one.compared and (not words or any(word in one.name for word in words))
    ]
    problems = []
    for variant in tried:
        started = time.monotonic()
        result = []
        with Copy(source, workplace / variant.folder, variant) as copy:
            for stage in stages:
                if problem := copy.run(stage):
                    result.append(f"{variant.name}: {stage.name}: {problem}")
                    print(f"    {result[-1]}", flush=True)
        seconds = time.monotonic() - started
        print(f"{variant.name:30} {len(stages)} stages, {len(result)} differ ({seconds:.0f} s)", flush=True)
        problems += result
    return problems


def archives(workplace: Path) -> list[str]:
    """Ingest the same images from all kinds of archives. Returns those that gave different shards."""
    files = _images(300)
    shuffled = list(files)
    random.Random(1).shuffle(shuffled)
    slug = NUMBERS6.slug
    kinds: dict[str, Any] = {
        "zip": lambda p: _zip(p / f"{slug}.zip", files, sorted(files), (2020, 1, 1, 0, 0, 0)),
        "zip, other order and times": lambda p: _zip(p / f"{slug}.zip", files, shuffled, (1999, 12, 31, 23, 58, 0)),
        "tar.gz": lambda p: _tar(p / f"{slug}.tar.gz", files, sorted(files), 0),
        "tar.gz, other order and times": lambda p: _tar(p / f"{slug}.tar.gz", files, shuffled, 1_700_000_000),
        "tar": lambda p: _tar(p / f"{slug}.tar", files, list(reversed(shuffled)), 5),
        "folder": lambda p: _folder(p / slug, files, shuffled),
    }
    problems: list[str] = []
    for images in ("all", 200):
        first: dict[str, str] = {}
        for name, pack in kinds.items():
            folder = workplace / "packed"
            shutil.rmtree(folder, ignore_errors=True)
            sources: dict[str, Any] = {"source": "archive", "downloads": "data/downloads", "seed": 0}
            alone = {"datasets": ["numbers6"], "models": ["dummy"], "union": [], "tiles": {}, "folds": [0]}
            made = Benchmark(folder, data=sources, datasets={"numbers6": {"images": images}}, matrix=alone)
            made.set(normalize={**made.params()["normalize"], "max_rejected": 0.5})
            pack(folder / "data/downloads")
            for stage in ("ingest", "normalize"):
                made.call(sys.executable, "-m", f"stages.{stage}", "numbers6")
            outs = ("data/shards/numbers6", "data/rejects/numbers6.csv", "metrics/data/numbers6.json")
            result = {out: _digest(_content(folder / out)) for out in outs}
            first = first or result
            differs = ", ".join(out for out in outs if result[out] != first[out])
            rejects = (folder / "data/rejects/numbers6.csv").read_text().count("\n") - 1
            print(f"{name:30} {images} images, {rejects} rejected: {differs or 'the same shards'}", flush=True)
            problems += [f"archive, {name}, {images}: {differs}"] if differs else []
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    """Try all variants. Returns 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.threads", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--finished", type=Path, help="a repository with all outputs")
    only = "variants of a kind (threads, locale, place, archives), or whose name contains a word"
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help=only)
    parser.add_argument("--stages", nargs="+", default=[], metavar="WORD", help="stages whose name contains a word")
    given = parser.parse_args(argv)
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="threads-") as name:
        workplace = Path(name)
        if given.only != ["archives"]:
            source = given.finished.resolve() if given.finished else make_small(workplace / "first")
            tried = [one for one in variants(workplace / "locales") if _wanted(given.only, one)]
            problems += repeat(source, workplace, tried, given.stages)
        if not given.only or "archives" in given.only:
            problems += archives(workplace)
    print(f"\n{len(problems)} differences" if problems else "\nno difference")
    return 1 if problems else 0


def _wanted(only: Sequence[str], variant: Variant) -> bool:
    return not only or any(word == variant.kind or word in variant.name for word in only)


def _has_locale(name: str, folder: Path) -> bool:
    """Whether the locale `name` is installed or can be made in `folder`."""
    folder.mkdir(exist_ok=True)
    language = name.split(".")[0]
    if not shutil.which("localedef"):
        return False
    command = ["localedef", "--inputfile", language, "--charmap", "UTF-8", str(folder / name)]
    subprocess.run(command, capture_output=True, check=False)
    return (folder / name).is_dir()


def _content(path: Path) -> dict[str, bytes]:
    """Relative path -> content of the files of an output."""
    if path.is_dir():
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
    return {"": path.read_bytes()} if path.exists() else {}


def _digest(content: Mapping[str, bytes]) -> str:
    named = {name: hashlib.sha256(each).hexdigest() for name, each in content.items()}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy2(source, target)


def _images(count: int) -> dict[str, bytes]:
    """Stand-ins of numbers6 as files of an archive, with copies, an image with two labels, and files of other kinds."""
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for index in range(count):
        drawn = NUMBERS6.draw(rng)
        files[f"numbers/{index % 7}/{drawn.label}.{drawn.suffix}"] = drawn.encoded
    names = sorted(files)
    for name in names[:5]:
        files[name.replace("numbers/", "again/")] = files[name]
    files["numbers/0/000001.png"] = files[names[10]]
    files["numbers/0/12ab56.png"] = files[names[11]]
    files["numbers/0/000002.png"] = b"no picture"
    files["readme.txt"] = b"about"
    return files


def _zip(path: Path, files: Mapping[str, bytes], order: Sequence[str], when: Any) -> None:
    with zipfile.ZipFile(path, "w") as packed:
        for name in order:
            packed.writestr(zipfile.ZipInfo(name, when), files[name], zipfile.ZIP_DEFLATED if when[0] < 2000 else None)


def _tar(path: Path, files: Mapping[str, bytes], order: Sequence[str], when: int) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as packed:
        for name in order:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(files[name]), when, stat.S_IRUSR
            packed.addfile(info, io.BytesIO(files[name]))


def _folder(path: Path, files: Mapping[str, bytes], order: Sequence[str]) -> None:
    for when, name in enumerate(order):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(files[name])
        os.utime(path / name, (when, when))


if __name__ == "__main__":
    sys.exit(main())
