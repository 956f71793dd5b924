"""Reads other commits' metrics from Git and their predictions through DVC. The only module that imports dvc."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from captchabench import git
from captchabench.cells.cell import Cell, expected_cells
from captchabench.comparison.retraining import Metric, Noise, measured
from captchabench.comparison.sides import Key, PredictionsMissing, Side, pool
from captchabench.comparison.staleness import behind
from captchabench.config import MatrixParams, build
from captchabench.errors import InputError, first_line
from captchabench.registry import did_you_mean
from captchabench.scoring.arithmetic import ARITHMETIC
from captchabench.storage.checksum import flaw, is_sealed
from captchabench.studies.noise import NOISE, parameters_digest

WORKSPACE = "workspace"
LEADERBOARD = "metrics/leaderboard.csv"

_METRICS = "metrics"
_SHORT = 9
_PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,.-]*\])?==([^\s;\\]+)", re.MULTILINE)
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+")
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
    names = ["params.yaml", "dvc.lock", "requirements.lock", ARITHMETIC.path, LEADERBOARD, NOISE.path]
    texts = read_files(root, commit, names)
    if texts[0] is None:
        raise InputError(f"{revision}: has no params.yaml; run in the benchmark's folder, on a commit of it")
    params = _numbers(_mapping(texts[0]))
    # Commits up to November 2026 call this section `grid`.
    section = "grid" if "matrix" not in params and "grid" in params else "matrix"
    matrix = build(MatrixParams, params.get(section), f"{revision}: params.yaml: {section}")
    expected = expected_cells(matrix)
    texts_of_cells = read_files(root, commit, [f"{_METRICS}/cells/{cell}.json" for cell in expected])
    cells = {cell: text for cell, text in zip(expected, texts_of_cells, strict=True) if text is not None}
    if not cells:
        remedy = "run `dvc repro`" if commit is None else "`captchabench history` lists the commits that have some"
        raise InputError(f"{revision}: has no scored cells in {_METRICS}/cells; {remedy}")
    lock = _mapping(texts[1] or b"")
    name = revision[:_SHORT] if revision == commit else revision
    results = pool(
        name,
        cells,
        _normalisation(lock, params, matrix),
        _arithmetic(list(cells), texts[3], texts[4]),
        _noise(params, texts[5]),
    )
    older = behind(lock, params, matrix, map(str, cells), lambda paths: _files_below(root, commit, paths))
    return Side(name, commit, results, _reader(name, commit, root), _packages(texts[2]), older)


def resolve(revision: str, root: Path = Path()) -> str:
    """The full hash of a commit, branch or tag. Raises InputError if there is no such commit or no repository."""
    done = git.run(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        git.check_repository(root)
        refs = git.read(root, "for-each-ref", "--format=%(refname:lstrip=2)").split()
        hint = did_you_mean(revision, [*refs, WORKSPACE]) if len(refs) < 20 else "`git branch -a` lists branches"
        if git.is_shallow(root):
            hint = f"this clone lacks older commits, which `git fetch --unshallow` fetches; {hint}"
        raise InputError(f"no commit, branch or tag called '{revision}'; {hint}")
    return done.stdout.decode().strip()


def commits(root: Path = Path()) -> list[Commit]:
    """The commits up to HEAD that touched metrics/, oldest first. Raises InputError without a repository."""
    git.check_repository(root)
    # Unlike `git log`, `git rev-list` never prints signatures. Before each commit it prints a line "commit HASH".
    listed = git.run(root, "rev-list", "--reverse", "--format=%H%x09%cI%x09%s", "HEAD", "--", _METRICS)
    lines = listed.stdout.decode(errors="replace").split("\n")
    return [Commit(*line.split("\t", 2)) for line in lines if "\t" in line]


def changed(root: Path = Path()) -> bool:
    """Whether the metrics on disk differ from those of HEAD."""
    return bool(git.changed(root, _METRICS))


def read_files(root: Path, commit: str | None, paths: Sequence[str]) -> list[bytes | None]:
    """The contents of files below `root` in a commit, or on disk if `commit` is None; None for each missing file."""
    if commit is None:
        return [path.read_bytes() if (path := root / name).is_file() else None for name in paths]
    return git.read_files(root, [f"{commit}:./{path}" for path in paths])


def read_over_time(root: Path, path: str, of: Sequence[Commit]) -> list[bytes | None]:
    """The contents of one file in each commit; None for commits without it."""
    return git.read_files(root, [f"{commit.commit}:./{path}" for commit in of])


def image_digests(commit: str | None, root: Path = Path()) -> dict[Key, str]:
    """(dataset, model) -> the digests of the held-out images and labels of its folds, in a commit or on disk.

    Files that are not cells are left out.
    """
    digests: dict[Key, list[str]] = {}
    for _, text in sorted(_files_below(root, commit, [f"{_METRICS}/cells"]).items()):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            scored = json.loads(text)
            for name, part in scored["parts"].items():
                digests.setdefault((name, scored["model"]), []).append(str(part["samples"]))
    return {key: " ".join(of_folds) for key, of_folds in digests.items()}


def _files_below(root: Path, commit: str | None, paths: Sequence[str]) -> dict[str, bytes]:
    """The contents of the files at or below each of `paths`, in a commit or on disk."""
    if not paths:
        return {}
    if commit is None:
        found = [path for name in paths for path in (root / name, *sorted((root / name).rglob("*")))]
        names = [path.relative_to(root).as_posix() for path in found if path.is_file() and _is_source(path)]
    else:
        listed = git.run(root, "ls-tree", "-r", "-z", "--name-only", commit, "--", *paths).stdout.decode()
        names = listed.rstrip("\0").split("\0")
    texts = read_files(root, commit, names)
    return {name: text for name, text in zip(names, texts, strict=True) if text is not None}


def _is_source(path: Path) -> bool:
    """Whether DVC counts the file: .dvcignore leaves out what Python and editors write beside the sources."""
    return path.suffix not in (".pyc", ".tmp") and "__pycache__" not in path.parts


def _arithmetic(cells: Sequence[Cell], table: bytes | None, board: bytes | None) -> dict[Cell, dict[str, str]]:
    """What is recorded of each cell's arithmetic; for commits without that table, what the leaderboard holds of it."""
    if table is not None:
        of_cells = {(row["dataset"], row["model"], row["fold"]): row for row in _rows(table)}
        rows = {cell: of_cells.get((cell.dataset, cell.model, str(cell.fold)), {}) for cell in cells}
        return {cell: _recorded(row, ARITHMETIC.schema.names()[3:]) for cell, row in rows.items()}
    of_rows = {(row.get("dataset"), row.get("model")): row for row in _rows(board or b"")}
    return {cell: _recorded(of_rows.get(cell[:2], {}), ("device", "threads")) for cell in cells}


def _recorded(row: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: row[name] for name in names if row.get(name)}


def _noise(params: Mapping[str, Any], table: bytes | None) -> dict[Key, dict[Metric, Noise]]:
    """The measured retraining noise of the cells whose parameters are those that it was measured with."""
    found = {}
    for row in _rows(table or b""):
        cell = row["dataset"].partition("/")[0]
        if row["parameters"] == parameters_digest(params, cell, row["model"]):
            found[row["dataset"], row["model"]] = measured(row)
    return found


def _rows(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.decode(errors="replace"))))


def _normalisation(
    lock: Mapping[str, Any], params: Mapping[str, Any], matrix: MatrixParams
) -> dict[str, Mapping[str, Any]]:
    """The parameters that each dataset was normalised with: from dvc.lock, since params.yaml may be newer."""
    stages = lock.get("stages") or {}
    normalisation: dict[str, Mapping[str, Any]] = {}
    for dataset in matrix.all_datasets:
        tiles = dataset in matrix.tiles.datasets
        stage = f"normalize-tiles@{dataset}" if tiles else f"normalize@{dataset}"
        run = stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        chosen = run.get("normalize") or params.get("normalize") or {}
        if tiles:
            # The size of grids and the choice of their tiles are parameters of tiles.
            tile_params = run.get("tiles") or params.get("tiles") or {}
            chosen = {**chosen, **{name: value for name, value in tile_params.items() if name != "source"}}
        normalisation[dataset] = {name: value for name, value in chosen.items() if name != _NOT_PIXELS}
    return normalisation


def _mapping(text: bytes) -> dict[str, Any]:
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        value = None
    return value if isinstance(value, dict) else {}


def _numbers(value: Any) -> Any:
    """A value of params.yaml in which 1e-3 is a number, as it is for DVC; PyYAML reads it as text."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return float(value) if isinstance(value, str) and _FLOAT.fullmatch(value) else value


def _packages(lock: bytes | None) -> dict[str, str]:
    """The pinned packages, name -> version."""
    return dict(_PINNED.findall((lock or b"").decode(errors="replace")))


def _reader(revision: str, commit: str | None, root: Path) -> Callable[[Cell], pl.DataFrame]:
    """A function that reads a cell's predictions, each file once."""
    read_file = (lambda path: (root / path).read_bytes()) if commit is None else _through_dvc(root, commit)

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
            remedy = "run `dvc pull` or `dvc repro`"
            raise PredictionsMissing(f"the predictions of {revision} are not on disk; {remedy}") from None
        except _NotKept as missing:
            raise PredictionsMissing(f"the predictions of {revision} {missing}") from None
        return pl.DataFrame(table.select(_COLUMNS))

    return read


class _NotKept(Exception):
    """DVC cannot read a file. The message says why and what to do."""


def _through_dvc(root: Path, commit: str) -> Callable[[str], bytes]:
    """A function that reads files that DVC keeps for a commit. It raises _NotKept for any failure.

    The cache and the remotes are those of the workspace, which may be newer than the commit. What they lack is looked
    up in those that the commit itself configures.
    """

    @cache
    def repositories() -> list[Any]:
        # Imported here, as it takes as long as the rest of the program: only another commit's predictions need it.
        from dvc.config import Config  # type: ignore[import-untyped]
        from dvc.fs import GitFileSystem  # type: ignore[import-untyped]
        from dvc.repo import Repo  # type: ignore[import-untyped]
        from dvc.scm import SCM  # type: ignore[import-untyped]

        git.complete(root, commit)
        scm, config = SCM(str(root)), Config(str(root.resolve() / ".dvc"))
        workspace = {section: config[section] for section in ("cache", "core", "remote")}
        # The benchmark may be in a subfolder of Git's repository, which DVC does not expect of a commit.
        folder = f"/{git.prefix(root).removesuffix('/')}"
        opened = [
            Repo(folder, fs=GitFileSystem(scm=scm, rev=commit), scm=scm, config=changes) for changes in (workspace, {})
        ]
        return opened[:1] if opened[0].config == opened[1].config else opened

    def read(path: str) -> bytes:
        from dvc.api import DVCFileSystem  # type: ignore[import-untyped]

        failure, remote = "", None
        try:
            for repository in repositories():
                remote = remote or repository.config["core"].get("remote")
                try:
                    return bytes(DVCFileSystem(repository).read_bytes(f"/{path}"))
                except FileNotFoundError:
                    continue
                # Each kind of remote raises its own exceptions: no network, no key, no such bucket.
                except Exception as error:
                    failure = first_line(error)
        # A configuration that DVC refuses.
        except Exception as error:
            failure = first_line(error)
        if failure:
            raise _NotKept(f"cannot be read through DVC ({failure})")
        if remote:
            raise _NotKept(
                f"are not in the cache and were not found in the remote '{remote}'; if it can be reached, run "
                "`dvc push` where they were made"
            )
        raise _NotKept(
            "are not in the cache, and DVC has no remote; run `dvc remote add --default NAME URL`, or check out that "
            "commit and run `dvc repro`"
        )

    return read
