"""Stores results of single stages in DVC's run cache and copies them to and from the shared remote.

DVC itself does not cache runs of stages with an output that Git keeps. It also copies the whole run cache at once,
which grows with every run. Here one entry is copied at a time. An entry is what dvc.lock holds for a stage; all files
are found from it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc import fs  # type: ignore[import-untyped]
from dvc.repo import Repo, lock_repo  # type: ignore[import-untyped]
from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA  # type: ignore[import-untyped]
from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash  # type: ignore[import-untyped]
from dvc.stage.loader import StageLoader  # type: ignore[import-untyped]
from dvc.stage.serialize import to_lockfile, to_single_stage_lockfile  # type: ignore[import-untyped]
from dvc.utils.serialize import dump_yaml, dumps_yaml, load_yaml  # type: ignore[import-untyped]

from captchabench.errors import InputError
from captchabench.storage.files import replacing_file
from flows.commit import changed_by_hand

# What dvc.lock holds for a stage: its command and the hashes of its inputs and outputs.
Entry = dict[str, Any]


@contextmanager
def open_repository(root: Path) -> Iterator[Any]:
    """DVC's repository at `root`, not locked. Taking its lock waits until it is free."""
    repo = Repo(str(root), _wait_for_lock=True)
    try:
        yield repo
    finally:
        repo.close()


def check_shared(root: Path) -> None:
    """Raise InputError unless other machines can get the same state: no uncommitted changes, and a remote."""
    with open_repository(root) as repo:
        if not repo.config["core"].get("remote"):
            raise InputError("workers need a shared DVC remote; run: dvc remote add --default NAME URL")
        check_clean(repo)


def check_clean(repo: Any) -> None:
    """Raise InputError if a file that no stage writes differs from the commit."""
    root = Path(repo.root_dir)
    with lock_repo(repo):
        outputs = {Path(out.fs_path).relative_to(root) for out in repo.index.outs}
    # DVC writes .gitignore files that list its outputs.
    outputs |= {path.with_name(".gitignore") for path in outputs}
    if changed := changed_by_hand(root, [path.as_posix() for path in outputs]):
        raise InputError(f"{root / changed[0]}: differs from the commit that workers have; undo or commit it")


def find(repo: Any, name: str) -> Any:
    """The stage of that name, with its entry in dvc.lock."""
    return next(iter(repo.stage.collect(name)))


def inputs(repo: Any, name: str) -> list[str]:
    """The stages that `name` needs, directly or indirectly, in topological order."""
    # Importing it takes most of a second, and a stage that runs here does not need it.
    import networkx as nx  # type: ignore[import-untyped]

    order = list(nx.dfs_postorder_nodes(repo.index.graph, find(repo, name)))
    return [stage.addressing for stage in order[:-1]]


def entry_of(stage: Any) -> Entry:
    """The entry in dvc.lock of a stage that has run."""
    return dict(to_single_stage_lockfile(stage))


def entry_text(stage: Any) -> str:
    """The text of a lock file with this stage alone, as DVC writes it. The stage has run."""
    return str(dumps_yaml({"schema": "2.0", "stages": to_lockfile(stage)}))


def save(repo: Any, name: str) -> Entry:
    """Save the outputs of a stage in the run cache; return its entry."""
    with lock_repo(repo):
        stage = find(repo, name)
        repo.stage_cache.save(stage)
        return entry_of(stage)


def send(repo: Any, entries: Sequence[Entry]) -> None:
    """Copy saved stages to the remote. Raises InputError if a file did not arrive."""
    objects = [obj for entry in entries for group in _objects(repo, entry) for obj in group]
    if repo.cloud.push(objects).failed:
        raise InputError("not all files reached the DVC remote; fix the error above, then run `dvc push`")
    cache, remote = repo.cache.legacy, _remote(repo)
    for entry in entries:
        path = _path(entry)
        target = remote.fs.join(remote.path, *path)
        # Entries are copied last, so that the files of every entry in the remote are there.
        if not remote.fs.exists(target):
            fs.generic.copy(cache.fs, cache.fs.join(cache.path, *path), remote.fs, target)


def fetch(repo: Any, entry: Entry) -> bool:
    """Fetch the outputs of an entry into DVC's cache, and the entry into the run cache; return whether all exist."""
    for group in _objects(repo, entry):
        repo.cloud.pull(group)
    if not _created(repo, entry).outs_cached():
        return False
    path = Path(repo.stage_cache._get_cache_path(*_key_and_value(entry)))
    if not path.exists():
        with replacing_file(path) as temporary:
            dump_yaml(str(temporary), entry)
    return True


def put(repo: Any, name: str, entry: Entry) -> None:
    """Check out the outputs of a fetched entry, and write the entry to dvc.lock."""
    with lock_repo(repo):
        stage = find(repo, name)
        if _key_and_value(entry_of(stage)) == _key_and_value(entry) and not stage.changed_outs():
            return
        cached = _created(repo, entry, stage.wdir)
        if cached.checkout(force=True).get("failed"):
            raise InputError(f"{name}: its outputs cannot be checked out; `dvc checkout {name}` says why")
        stage.ignore_outs()
        StageLoader.fill_from_lock(stage, entry)
        stage.dump(update_pipeline=False)


def past_entries(repo: Any, name: str) -> Iterator[Entry]:
    """Entries of earlier runs of a stage on its current inputs: from this machine's run cache, then from the remote."""
    with lock_repo(repo):
        stage = find(repo, name)
        stage.save_deps()
        if not _can_hash(stage):
            return
        key = _get_stage_hash(stage)
        local = repo.stage_cache._load(stage)
    if local:
        yield local
    remote = _remote(repo)
    folder = remote.fs.join(remote.path, *_folder(key))
    if remote.fs.exists(folder):
        for path in sorted(remote.fs.find(folder)):
            yield COMPILED_LOCK_FILE_STAGE_SCHEMA(load_yaml(path, fs=remote.fs))


def _remote(repo: Any) -> Any:
    # In the cache and in the remote, DVC keeps the run cache with the files of its version 2.
    return repo.cloud.get_remote_odb(None, hash_name="md5-dos2unix")


def _key_and_value(entry: Entry) -> tuple[str, str]:
    # A copy, because DVC's function modifies its argument.
    return _get_cache_hash(dict(entry), key=True), _get_cache_hash(dict(entry))


def _folder(key: str) -> tuple[str, str, str]:
    return "runs", key[:2], key


def _path(entry: Entry) -> tuple[str, ...]:
    key, value = _key_and_value(entry)
    return *_folder(key), value


def _created(repo: Any, entry: Entry, wdir: str | None = None) -> Any:
    # In this stage DVC keeps all outputs, also those with `cache: false` in dvc.yaml.
    return repo.stage_cache._create_stage(entry, wdir=wdir)


def _objects(repo: Any, entry: Entry) -> list[set[Any]]:
    return list(_created(repo, entry).get_used_objs().values())
