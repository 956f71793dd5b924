"""DVC's own graph of the stages, and what DVC says is stale."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networkx as nx  # type: ignore[import-untyped]
from dvc.dvcfile import PROJECT_FILE  # type: ignore[import-untyped]
from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]

from captchabench.errors import InputError
from captchabench.registry import did_you_mean
from flows.resources import Need


@dataclass(frozen=True)
class Stage:
    """One stage, named as DVC does. upstream: the stages whose outputs it reads."""

    name: str
    upstream: tuple[str, ...]
    need: Need


@dataclass(frozen=True)
class Graph:
    """The stages in an order in which they can run.

    changed: those that DVC would run as things are. Whatever depends on them may turn out to be stale too.
    kept: the files that stages write and Git keeps, as paths from the repository's folder. other: those of `changed`
    whose parameters or command are not those of their last run, which may have taken another time.
    """

    stages: tuple[Stage, ...]
    changed: frozenset[str]
    kept: tuple[str, ...] = ()
    other: frozenset[str] = frozenset()

    def due(self) -> tuple[Stage, ...]:
        """The stages that are changed or come after one that is, in order."""
        due: set[str] = set()
        for stage in self.stages:
            if stage.name in self.changed or due.intersection(stage.upstream):
                due.add(stage.name)
        return tuple(stage for stage in self.stages if stage.name in due)

    def only(self, words: Collection[str]) -> "Graph":
        """The stages with all of `words` in their matrix, such as a model and a dataset, and what they need.

        Raises InputError if there is none.
        """
        matrices = {stage.name: set(stage.name.partition("@")[2].split("-")) for stage in self.stages}
        kept = {name for name, items in matrices.items() if items >= set(words)}
        if not kept:
            known = set().union(*matrices.values())
            unknown = next((word for word in words if word not in known), None)
            mend = did_you_mean(unknown, known) if unknown else "each is known, but no stage has them all"
            raise InputError(f"no stage has {', '.join(words)} in its matrix; {mend}")
        for stage in reversed(self.stages):
            if stage.name in kept:
                kept.update(stage.upstream)
        stages = tuple(stage for stage in self.stages if stage.name in kept)
        return replace(self, stages=stages, changed=self.changed & kept, other=self.other & kept)


def read_graph(root: Path) -> Graph:
    """Read the graph of the repository at `root`; takes DVC's locks for a moment.

    Raises InputError for a bad `meta`, and for whatever else DVC cannot make sense of.
    """
    repo = Repo(str(root))
    try:
        graph = repo.index.graph
        # An edge goes from a stage to one it needs. The names make the order the same every time.
        order = nx.lexicographical_topological_sort(graph.reverse(copy=False), key=_name)
        stages = tuple(
            Stage(
                _name(stage),
                tuple(sorted(_name(needed) for needed in graph.successors(stage))),
                Need.of(_name(stage), getattr(stage, "meta", None)),
            )
            for stage in order
        )
        # DVC's status has names as seen from the current folder.
        stale = repo.status()
        changed = frozenset(_name(stage) for stage in graph if stage.addressing in stale)
        other = frozenset(_name(stage) for stage in graph if _is_other(stale.get(stage.addressing, [])))
        kept = [os.path.relpath(out.fs_path, repo.root_dir) for out in repo.index.outs if not out.use_cache]
        return Graph(stages, changed, tuple(sorted(kept)), other)
    except DvcException as error:
        raise InputError(f"DVC: {error}; `dvc status` says more") from error
    finally:
        repo.close()


def _is_other(said: Sequence[Any]) -> bool:
    """Whether DVC says of a stage that it has other parameters, or another command."""
    return any(
        entry == "changed command" or (isinstance(entry, dict) and "params.yaml" in entry.get("changed deps", {}))
        for entry in said
    )


def _name(stage: Any) -> str:
    """What DVC calls a stage in the repository's folder."""
    where = stage.path_in_repo
    name = getattr(stage, "name", None)
    if not name:
        return str(where)
    return str(name) if where == PROJECT_FILE else f"{where}:{name}"
