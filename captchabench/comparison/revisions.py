"""Reads other commits' metrics from Git and their predictions through DVC. The only module that imports dvc."""

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
# This parameter limits how many images may be rejected. It changes no pixel.
_NOT_PIXELS = "max_rejected"
# The pure Python loader takes a second for the lock file of the default run.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Commit:
    """A commit that touched metrics/: full hash, committer's date (ISO 8601), first line of the message."""

    commit: str
    date: str
    subject: str


def side(revision: str, root: Path = Path()) -> Side:
    """The metrics and predictions of `revision`: a commit, branch, tag or "workspace".

    root: the benchmark's folder. Raises InputError if there is no Git repository, no such commit, or nothing to
    compare in it.
    """
    commit = None if revision == WORKSPACE else resolve(revision, root)
    texts = read_files(root, commit, ["params.yaml", "dvc.lock", "requirements.lock"])
    if texts[0] is None:
        raise InputError(f"{revision}: has no params.yaml; run in the benchmark's folder, on a commit of it")
    params = _mapping(texts[0])
    # Commits up to November 2026 call this section `grid`.
    section = "grid" if "matrix" not in params and "grid" in params else "matrix"
    matrix = build(MatrixParams, params.get(section), f"{revision}: params.yaml: {section}")
    expected = expected_cells(matrix)
    texts_of_cells = read_files(root, commit, [f"{_METRICS}/cells/{cell}.json" for cell in expected])
    cells = {cell: text for cell, text in zip(expected, texts_of_cells, strict=True) if text is not None}
    if not cells:
        remedy = "run `dvc repro`" if commit is None else "`captchabench history` lists the commits that have some"
        raise InputError(f"{revision}: has no scored cells in {_METRICS}/cells; {remedy}")
    normalisation = _normalisation(texts[1], texts[0], matrix)
    name = revision[:_SHORT] if revision == commit else revision
    return Side(name, commit, pool(name, cells, normalisation), _reader(name, commit, root), _packages(texts[2]))


def resolve(revision: str, root: Path = Path()) -> str:
    """The full hash of a commit, branch or tag. Raises InputError if there is no such commit or no repository."""
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        _check_repository(root)
        refs = _git(root, "for-each-ref", "--format=%(refname:short)").stdout.decode().split()
        hint = did_you_mean(revision, [*refs, WORKSPACE]) if len(refs) < 20 else "`git branch -a` lists branches"
        raise InputError(f"no commit, branch or tag called '{revision}'; {hint}")
    return done.stdout.decode().strip()


def commits(root: Path = Path()) -> list[Commit]:
    """The commits up to HEAD that touched metrics/, oldest first. Raises InputError without a repository."""
    _check_repository(root)
    done = _git(root, "log", "--reverse", "--format=%H%x09%cI%x09%s", "HEAD", "--", _METRICS)
    return [Commit(*line.split("\t", 2)) for line in done.stdout.decode(errors="replace").splitlines()]


def changed(root: Path = Path()) -> bool:
    """Whether the metrics on disk differ from those of HEAD."""
    return bool(_git(root, "status", "--porcelain", "--", _METRICS).stdout)


def read_files(root: Path, commit: str | None, paths: Sequence[str]) -> list[bytes | None]:
    """The contents of files below `root` in a commit, or on disk if `commit` is None; None for each missing file."""
    if commit is None:
        return [path.read_bytes() if (path := root / name).is_file() else None for name in paths]
    return _blobs(root, [f"{commit}:./{path}" for path in paths])


def read_over_time(root: Path, path: str, of: Sequence[Commit]) -> list[bytes | None]:
    """The contents of one file in each commit; None for commits without it."""
    return _blobs(root, [f"{commit.commit}:./{path}" for commit in of])


def _blobs(root: Path, names: Sequence[str]) -> list[bytes | None]:
    """The contents of Git objects, read in one call. names: such as COMMIT:./PATH."""
    stream = BytesIO(_git(root, "cat-file", "--batch", stdin="\n".join([*names, ""])).stdout)
    contents: list[bytes | None] = []
    for _ in names:
        header = stream.readline().split()
        if header[-1:] == [b"missing"] or len(header) != 3:
            contents.append(None)
        else:
            contents.append(stream.read(int(header[2])))
            stream.readline()
    return contents


def _normalisation(lock: bytes | None, params: bytes, matrix: MatrixParams) -> dict[str, Mapping[str, Any]]:
    """The parameters that each dataset was normalised with: from dvc.lock, since params.yaml may be newer."""
    stages = _mapping(lock or b"").get("stages") or {}
    normalisation: dict[str, Mapping[str, Any]] = {}
    for dataset in matrix.all_datasets:
        tiles = dataset in matrix.tiles.datasets
        stage = f"normalize-tiles@{dataset}" if tiles else f"normalize@{dataset}"
        run = stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        chosen = run.get("normalize") or _mapping(params).get("normalize") or {}
        if tiles:
            # The size of grids and the choice of their tiles are parameters of tiles.
            tile_params = run.get("tiles") or _mapping(params).get("tiles") or {}
            chosen = {**chosen, **{name: value for name, value in tile_params.items() if name != "source"}}
        normalisation[dataset] = {name: value for name, value in chosen.items() if name != _NOT_PIXELS}
    return normalisation


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
    read_file = (lambda path: (root / path).read_bytes()) if commit is None else _through_dvc(root, commit)
    where = "on disk" if commit is None else "in the cache or a remote"

    @cache
    def read(cell: Cell) -> pl.DataFrame:
        path = f"data/predictions/{cell}.parquet"
        try:
            content = read_file(path)
            # Files of older versions have no checksum.
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
    """A function that reads files that DVC keeps for a commit. It raises FileNotFoundError for any failure."""
    # Imported here, as it takes as long as the rest of the program: only another commit's predictions need it.
    from dvc.api import DVCFileSystem  # type: ignore[import-untyped]

    files = DVCFileSystem(str(root), rev=commit)

    def read(path: str) -> bytes:
        try:
            return bytes(files.read_bytes(f"/{path}"))
        # Each kind of remote raises its own exceptions: no network, no key, no such bucket.
        except Exception as error:
            raise FileNotFoundError(path) from error

    return read


def _check_repository(root: Path) -> None:
    if _git(root, "rev-parse", "--git-dir").returncode:
        raise InputError(f"{root.resolve()}: is not in a Git repository; run in a clone of the benchmark")
    if _git(root, "rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise InputError(f"{root.resolve()}: has no commit yet; commit metrics/ and dvc.lock")


def _git(root: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=root, input=stdin.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError("git: no such program; install Git, which is needed to read other commits") from None
