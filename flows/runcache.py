"""Results of single stages in DVC's run cache, and on their way to and from the shared remote.

DVC itself leaves a stage with an output that Git keeps out of its run cache, and moves the whole of that cache at
once, which grows with every run. Here it is one entry at a time: what dvc.lock says of a stage, from which
everything else is found.
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

# What dvc.lock says of a stage: command, and hashes of what it read and wrote.
Entry = dict[str, Any]


@contextmanager
def opened(root: Path) -> Iterator[Any]:
    """DVC's repository at `root`. Its lock is free; whoever takes it waits for it."""
    repo = Repo(str(root), _wait_for_lock=True)
    try:
        yield repo
    finally:
        repo.close()


def check_shared(root: Path) -> None:
    """Raise InputError unless other machines can have what is here: a commit with nothing changed, and a remote."""
    with opened(root) as repo:
        if not repo.config["core"].get("remote"):
            raise InputError("workers need a DVC remote that they share; dvc remote add --default NAME URL")
        check_clean(repo)


def check_clean(repo: Any) -> None:
    """Raise InputError if anything but what stages write differs from the commit."""
    root = Path(repo.root_dir)
    with lock_repo(repo):
        made = {Path(out.fs_path).relative_to(root) for out in repo.index.outs}
    # DVC lists outputs that are not Git's there.
    made |= {path.with_name(".gitignore") for path in made}
    if changed := changed_by_hand(root, [path.as_posix() for path in made]):
        raise InputError(f"{root / changed[0]}: not as committed, which others have; undo or commit it")


def find(repo: Any, name: str) -> Any:
    """The stage of that name, with what dvc.lock says of it."""
    return next(iter(repo.stage.collect(name)))


def inputs(repo: Any, name: str) -> list[str]:
    """The stages that `name` needs, directly or not, in an order in which they can be made."""
    # Takes a good part of a second to import, and a stage that runs here needs none of it.
    import networkx as nx  # type: ignore[import-untyped]

    order = list(nx.dfs_postorder_nodes(repo.index.graph, find(repo, name)))
    return [stage.addressing for stage in order[:-1]]


def entry_of(stage: Any) -> Entry:
    """What dvc.lock says of a stage that is made."""
    return dict(to_single_stage_lockfile(stage))


def entry_text(stage: Any) -> str:
    """A lock file of a stage that is made, with nothing else in it, as DVC writes it."""
    return str(dumps_yaml({"schema": "2.0", "stages": to_lockfile(stage)}))


def save(repo: Any, name: str) -> Entry:
    """Put what a stage made into the run cache; return its entry."""
    with lock_repo(repo):
        stage = find(repo, name)
        repo.stage_cache.save(stage)
        return entry_of(stage)


def send(repo: Any, entries: Sequence[Entry]) -> None:
    """Copy stages that were saved to the remote. Raises InputError where something did not arrive."""
    objects = [one for entry in entries for found in _objects(repo, entry) for one in found]
    if repo.cloud.push(objects).failed:
        raise InputError("not all files reached the DVC remote; see above, and `dvc push` once that is mended")
    cache, remote = repo.cache.legacy, _remote(repo)
    for entry in entries:
        path = _path(entry)
        there = remote.fs.join(remote.path, *path)
        # Comes last: an entry in the remote has its files there.
        if not remote.fs.exists(there):
            fs.generic.copy(cache.fs, cache.fs.join(cache.path, *path), remote.fs, there)


def fetch(repo: Any, entry: Entry) -> bool:
    """Bring what a stage made into DVC's cache, and its entry into the run cache; whether all is there."""
    for found in _objects(repo, entry):
        repo.cloud.pull(found)
    if not _created(repo, entry).outs_cached():
        return False
    path = Path(repo.stage_cache._get_cache_path(*_key_and_value(entry)))
    if not path.exists():
        with replacing_file(path) as temporary:
            dump_yaml(str(temporary), entry)
    return True


def put(repo: Any, name: str, entry: Entry) -> None:
    """Make the outputs of a stage, and dvc.lock, those of an entry that was fetched."""
    with lock_repo(repo):
        stage = find(repo, name)
        if _key_and_value(entry_of(stage)) == _key_and_value(entry) and not stage.changed_outs():
            return
        made = _created(repo, entry, stage.wdir)
        if made.checkout(force=True).get("failed"):
            raise InputError(f"{name}: what it made cannot be put in its place; `dvc checkout {name}` says why")
        stage.ignore_outs()
        StageLoader.fill_from_lock(stage, entry)
        stage.dump(update_pipeline=False)


def known(repo: Any, name: str) -> Iterator[Entry]:
    """What was made of a stage from the inputs that are here now, by this machine or, in the remote, by any."""
    with lock_repo(repo):
        stage = find(repo, name)
        stage.save_deps()
        if not _can_hash(stage):
            return
        key = _get_stage_hash(stage)
        own = repo.stage_cache._load(stage)
    if own:
        yield own
    remote = _remote(repo)
    folder = remote.fs.join(remote.path, *_folder(key))
    if remote.fs.exists(folder):
        for path in sorted(remote.fs.find(folder)):
            yield COMPILED_LOCK_FILE_STAGE_SCHEMA(load_yaml(path, fs=remote.fs))


def _remote(repo: Any) -> Any:
    # DVC keeps the run cache beside files of its second version, here as there.
    return repo.cloud.get_remote_odb(None, hash_name="md5-dos2unix")


def _key_and_value(entry: Entry) -> tuple[str, str]:
    # DVC's function writes into what it is given.
    return _get_cache_hash(dict(entry), key=True), _get_cache_hash(dict(entry))


def _folder(key: str) -> tuple[str, str, str]:
    return "runs", key[:2], key


def _path(entry: Entry) -> tuple[str, ...]:
    key, value = _key_and_value(entry)
    return *_folder(key), value


def _created(repo: Any, entry: Entry, wdir: str | None = None) -> Any:
    # All its outputs are DVC's, also those that are Git's in dvc.yaml.
    return repo.stage_cache._create_stage(entry, wdir=wdir)


def _objects(repo: Any, entry: Entry) -> list[set[Any]]:
    return list(_created(repo, entry).get_used_objs().values())
