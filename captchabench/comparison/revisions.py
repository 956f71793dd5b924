"""Other commits' metrics, from Git, and predictions, through DVC. The one module that imports dvc."""

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from captchabench.cells.cell import Cell, expected_cells
from captchabench.comparison.sides import PredictionsMissing, Side, pool
from captchabench.config import MatrixParams, build
from captchabench.errors import InputError
from captchabench.registry import did_you_mean
from captchabench.storage.checksum import flaw, is_sealed

WORKSPACE = "workspace"
LEADERBOARD = "metrics/leaderboard.csv"

_METRICS = "metrics"
_SHORT = 9
_PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,.-]*\])?==([^\s;\\]+)", re.MULTILINE)
_COLUMNS = ["dataset", "sample_id", "label", "prediction"]
# A limit on what may be dropped changes no pixel.
_NOT_PIXELS = "max_rejected"
# Pure Python takes a second for the lock file of the default run.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Commit:
    """A commit that touched metrics/: full hash, committer's date (ISO 8601), first line of the message."""

    commit: str
    date: str
    subject: str


def side(revision: str, root: Path = Path()) -> Side:
    """What `revision` (a commit, branch or tag, or "workspace") has in its metrics and predictions.

    root: the benchmark's folder. Raises InputError where there is no Git repository, no such commit, or
    nothing to compare in it.
    """
    commit = None if revision == WORKSPACE else resolve(revision, root)
    texts = read_files(root, commit, ["params.yaml", "dvc.lock", "requirements.lock"])
    if texts[0] is None:
        raise InputError(f"{revision}: has no params.yaml; run in the benchmark's folder, on a commit of it")
    params = _mapping(texts[0])
    # Commits up to November 2026 call the section so.
    section = "grid" if "matrix" not in params and "grid" in params else "matrix"
    matrix = build(MatrixParams, params.get(section), f"{revision}: params.yaml: {section}")
    expected = expected_cells(matrix)
    texts_of_cells = read_files(root, commit, [f"{_METRICS}/cells/{cell}.json" for cell in expected])
    cells = {cell: text for cell, text in zip(expected, texts_of_cells, strict=True) if text is not None}
    if not cells:
        mend = "run `dvc repro`" if commit is None else "`captchabench history` lists the commits that have some"
        raise InputError(f"{revision}: has no scored cells in {_METRICS}/cells; {mend}")
    normalisation = _normalisation(texts[1], texts[0], matrix)
    name = revision[:_SHORT] if revision == commit else revision
    return Side(name, commit, pool(name, cells, normalisation), _reader(name, commit, root), _packages(texts[2]))


def resolve(revision: str, root: Path = Path()) -> str:
    """The full hash of a commit, branch or tag. Raises InputError if there is no such commit or no repository."""
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        _check_repository(root)
        refs = _git(root, "for-each-ref", "--format=%(refname:short)").stdout.decode().split()
        near = did_you_mean(revision, [*refs, WORKSPACE]) if len(refs) < 20 else "`git branch -a` lists branches"
        raise InputError(f"no commit, branch or tag called '{revision}'; {near}")
    return done.stdout.decode().strip()


def commits(root: Path = Path()) -> list[Commit]:
    """The commits up to HEAD that touched metrics/, oldest first. Raises InputError where there is no repository."""
    _check_repository(root)
    done = _git(root, "log", "--reverse", "--format=%H%x09%cI%x09%s", "HEAD", "--", _METRICS)
    return [Commit(*line.split("\t", 2)) for line in done.stdout.decode(errors="replace").splitlines()]


def changed(root: Path = Path()) -> bool:
    """Whether the metrics on disk differ from those of HEAD."""
    return bool(_git(root, "status", "--porcelain", "--", _METRICS).stdout)


def read_files(root: Path, commit: str | None, paths: Sequence[str]) -> list[bytes | None]:
    """The contents of files below `root` in a commit, or on disk for None; None for each that is not there."""
    if commit is None:
        return [path.read_bytes() if (path := root / name).is_file() else None for name in paths]
    return _blobs(root, [f"{commit}:./{path}" for path in paths])


def read_over_time(root: Path, path: str, of: Sequence[Commit]) -> list[bytes | None]:
    """The contents of one file in each commit, None where it is not there."""
    return _blobs(root, [f"{commit.commit}:./{path}" for commit in of])


def _blobs(root: Path, names: Sequence[str]) -> list[bytes | None]:
    """What Git calls `names`, in one call."""
    stream = BytesIO(_git(root, "cat-file", "--batch", typed="\n".join([*names, ""])).stdout)
    found: list[bytes | None] = []
    for _ in names:
        header = stream.readline().split()
        if header[-1:] == [b"missing"] or len(header) != 3:
            found.append(None)
        else:
            found.append(stream.read(int(header[2])))
            stream.readline()
    return found


def _normalisation(lock: bytes | None, params: bytes, matrix: MatrixParams) -> dict[str, Mapping[str, Any]]:
    """The parameters that each dataset was normalised with: those of dvc.lock, since params.yaml may be ahead."""
    stages = _mapping(lock or b"").get("stages") or {}
    found: dict[str, Mapping[str, Any]] = {}
    for dataset in matrix.all_datasets:
        tiles = dataset in matrix.tiles.datasets
        stage = f"normalize-tiles@{dataset}" if tiles else f"normalize@{dataset}"
        run = stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        chosen = run.get("normalize") or _mapping(params).get("normalize") or {}
        if tiles:
            # A grid's size, and which tiles meet in it, are its own.
            own = run.get("tiles") or _mapping(params).get("tiles") or {}
            chosen = {**chosen, **{name: value for name, value in own.items() if name != "source"}}
        found[dataset] = {name: value for name, value in chosen.items() if name != _NOT_PIXELS}
    return found


def _mapping(text: bytes) -> dict[str, Any]:
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        value = None
    return value if isinstance(value, dict) else {}


def _packages(lock: bytes | None) -> dict[str, str]:
    """The pinned packages, name -> version."""
    return dict(_PINNED.findall((lock or b"").decode(errors="replace")))


def _reader(revision: str, commit: str | None, root: Path) -> Callable[[Cell], pl.DataFrame]:
    """A function that reads a cell's predictions, each file once."""
    opened = (lambda path: (root / path).read_bytes()) if commit is None else _through_dvc(root, commit)
    where = "on disk" if commit is None else "in the cache or a remote"

    @cache
    def read(cell: Cell) -> pl.DataFrame:
        path = f"data/predictions/{cell}.parquet"
        try:
            content = opened(path)
            # Those of older versions hold none.
            if is_sealed(content) and (problem := flaw(content)):
                raise PredictionsMissing(f"the predictions of {revision} are damaged ({path}: {problem})")
            table = pq.ParquetFile(BytesIO(content)).read(_COLUMNS)
        except (pa.ArrowException, KeyError):
            raise PredictionsMissing(f"the predictions of {revision} cannot be read") from None
        except FileNotFoundError:
            raise PredictionsMissing(f"the predictions of {revision} are not {where}") from None
        return pl.DataFrame(table.select(_COLUMNS))

    return read


def _through_dvc(root: Path, commit: str) -> Callable[[str], bytes]:
    """A function that reads files that DVC keeps for a commit. It raises FileNotFoundError, whatever the reason."""
    # Takes as long to import as the rest of the program: only where another commit's predictions are read.
    from dvc.api import DVCFileSystem  # type: ignore[import-untyped]

    files = DVCFileSystem(str(root), rev=commit)

    def read(path: str) -> bytes:
        try:
            return bytes(files.read_bytes(f"/{path}"))
        # A remote fails in as many ways as there are remotes: no network, no key, no such bucket.
        except Exception as error:
            raise FileNotFoundError(path) from error

    return read


def _check_repository(root: Path) -> None:
    if _git(root, "rev-parse", "--git-dir").returncode:
        raise InputError(f"{root.resolve()}: is not in a Git repository; run in a clone of the benchmark")
    if _git(root, "rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise InputError(f"{root.resolve()}: has no commit yet; commit metrics/ and dvc.lock")


def _git(root: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *words], cwd=root, input=typed.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError("git: no such program; install Git, which knows the other commits") from None
