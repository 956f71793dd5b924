"""DVC's graph of the stages, and which of them DVC considers stale."""

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
from captchabench.git import has_repository
from captchabench.registry import did_you_mean
from flows.resources import Need


@dataclass(frozen=True)
class Stage:
    """One stage, with its DVC name. upstream: the stages whose outputs it reads."""

    name: str
    upstream: tuple[str, ...]
    need: Need


@dataclass(frozen=True)
class Graph:
    """The stages in topological order.

    changed: stages that DVC would run now. Stages that depend on them may turn out to be stale too. kept: files and
    folders that stages write and Git keeps, relative to the repository's folder. other: stages of `changed` whose
    parameters or command differ from their last run, so that its duration says little about the next one.
    """

    stages: tuple[Stage, ...]
    changed: frozenset[str]
    kept: tuple[str, ...] = ()
    other: frozenset[str] = frozenset()

    def due(self) -> tuple[Stage, ...]:
        """The changed stages and all that depend on them, in order."""
        due: set[str] = set()
        for stage in self.stages:
            if stage.name in self.changed or due.intersection(stage.upstream):
                due.add(stage.name)
        return tuple(stage for stage in self.stages if stage.name in due)

    def only(self, wanted: Collection[str]) -> "Graph":
        """The stages with all of `wanted` in their matrix, such as a model and a dataset, and the stages they need.

        Raises InputError if there is none.
        """
        matrices = {stage.name: set(stage.name.partition("@")[2].split("-")) for stage in self.stages}
        kept = {name for name, items in matrices.items() if items >= set(wanted)}
        if not kept:
            known = set().union(*matrices.values())
            unknown = next((item for item in wanted if item not in known), None)
            remedy = did_you_mean(unknown, known) if unknown else "each is known, but no stage has them all"
            raise InputError(f"no stage has {', '.join(wanted)} in its matrix; {remedy}")
        for stage in reversed(self.stages):
            if stage.name in kept:
                kept.update(stage.upstream)
        stages = tuple(stage for stage in self.stages if stage.name in kept)
        return replace(self, stages=stages, changed=self.changed & kept, other=self.other & kept)


def read_graph(root: Path) -> Graph:
    """Read the graph of the repository at `root`; takes DVC's locks briefly.

    Raises InputError for a bad `meta`, and for anything that DVC cannot read.
    """
    if not has_repository(root):
        # A downloaded zip file.
        raise InputError(f"{root.resolve()}: is not in a Git repository; DVC needs one: `git init`, or use a clone")
    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            # An edge goes from a stage to one that it needs. Sorting by name makes the order deterministic.
            order = nx.lexicographical_topological_sort(graph.reverse(copy=False), key=_name)
            stages = tuple(
                Stage(
                    _name(stage),
                    tuple(sorted(_name(needed) for needed in graph.successors(stage))),
                    Need.of(_name(stage), getattr(stage, "meta", None)),
                )
                for stage in order
            )
            # The names in DVC's status are relative to the current folder.
            stale = repo.status()
            changed = frozenset(_name(stage) for stage in graph if stage.addressing in stale)
            other = frozenset(_name(stage) for stage in graph if _is_other(stale.get(stage.addressing, [])))
            kept = [os.path.relpath(out.fs_path, repo.root_dir) for out in repo.index.outs if not out.use_cache]
            return Graph(stages, changed, tuple(sorted(kept)), other)
    except DvcException as error:
        raise InputError(f"DVC: {error}; `dvc status` says more") from error


def _is_other(status: Sequence[Any]) -> bool:
    """Whether parameters or command of a stage have changed. status: DVC's status of the stage."""
    return any(
        entry == "changed command" or (isinstance(entry, dict) and "params.yaml" in entry.get("changed deps", {}))
        for entry in status
    )


def _name(stage: Any) -> str:
    """The name of a stage relative to the repository's folder."""
    path = stage.path_in_repo
    name = getattr(stage, "name", None)
    if not name:
        return str(path)
    return str(name) if path == PROJECT_FILE else f"{path}:{name}"
