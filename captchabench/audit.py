"""An independent check of finished shards: duplicates, leakage across folds, colliding labels and balance.

Duplicates are computed from the pixels again, independently of normalisation. Grids are split into tiles and each tile
is checked, since a model must not be tested on a tile that it was trained on.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import fold_case
from captchabench.datasets.base import ROWS, TILES, Task
from captchabench.normalize.duplicates import duplicate_groups, hash_images
from captchabench.normalize.grids import split_grids
from captchabench.pool import ordered
from captchabench.samples.shards import ShardInfo, read_batches, read_info, shard_files, tile_names

# Examples listed per finding.
EXAMPLES = 5


@dataclass(frozen=True)
class _Rows:
    """N samples, or tiles of grids, without their pixels.

    labels: the class of a tile. sizes: [N] codes of height and width. hashes: [N, V, 4], see `hash_images`. digests:
    [N], equal for equal pixels.
    """

    datasets: NDArray[np.object_]
    labels: NDArray[np.object_]
    names: NDArray[np.object_]
    folds: NDArray[np.int8]
    sizes: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    digests: NDArray[np.object_]

    def describe(self, row: int) -> str:
        """The dataset, name and fold of a sample."""
        return f"{self.datasets[row]}:{self.names[row]} (fold {self.folds[row]})"


@dataclass(frozen=True)
class Audit:
    """figures: the content of `metrics/data/audit.json`. leaks: descriptions of the samples in each group that is in
    several folds. empty_folds: by dataset, if it has any."""

    figures: dict[str, Any]
    leaks: list[list[str]]
    empty_folds: dict[str, list[int]]


def audit(folders: Sequence[Path], folds: int, workers: int | None = None) -> Audit:
    """Check the shards in `folders`, one dataset each. Raises InputError if they are missing or damaged.

    workers: processes; by default one per core.
    """
    infos = [(read_info(folder), folder) for folder in folders]
    parts = [(info, part) for info, folder in infos for part in shard_files(folder)]
    columns_of_parts = list(ordered(_read, parts, workers))
    rows = _Rows(*(np.concatenate(columns) for columns in zip(*columns_of_parts, strict=True)))
    groups = _near_groups(rows)
    members = _members(groups)
    copies = _members(np.unique(rows.digests, return_inverse=True)[1])
    leaks = [group for group in members if len(set(rows.folds[group])) > 1]
    leaked_copies = [group for group in copies if len(set(rows.folds[group])) > 1]
    two_labels = [group for group in copies if len(set(rows.labels[group])) > 1]
    datasets = {
        info.dataset: _figures(rows, np.flatnonzero(rows.datasets == info.dataset), folds, info.task)
        | ({} if info.task == "grid" else {"groups": _groups(rows, groups, info.dataset, folds)})
        for info, _ in infos
    }
    empty = {
        key: [int(fold) for fold, images in figures["folds"].items() if not images] for key, figures in datasets.items()
    }
    return Audit(
        figures={
            "datasets": datasets,
            "duplicates": {
                "exact_groups": len(copies),
                "exact_images": sum(map(len, copies)),
                "near_groups": len(members),
                "near_images": sum(map(len, members)),
                "largest_group": max(map(len, members), default=1),
                "groups_across_datasets": sum(len(set(rows.datasets[group])) > 1 for group in members),
                "exact_groups_with_two_labels": len(two_labels),
                "two_labels_examples": [
                    [f"{rows.describe(i)} labelled {rows.labels[i]}" for i in group[:EXAMPLES]]
                    for group in two_labels[:EXAMPLES]
                ],
            },
            "leakage": {
                "exact_groups_across_folds": len(leaked_copies),
                "near_groups_across_folds": len(leaks),
                "examples": [[rows.describe(i) for i in group[:EXAMPLES]] for group in leaks[:EXAMPLES]],
            },
        },
        leaks=[[rows.describe(i) for i in group] for group in leaks],
        empty_folds={key: numbers for key, numbers in empty.items() if numbers},
    )


def _near_groups(rows: _Rows) -> NDArray[np.int64]:
    """Group numbers [N] of near-duplicates. Hashes are only compared between images of the same size."""
    groups = np.empty(len(rows.sizes), np.int64)
    start = 0
    for size in np.unique(rows.sizes):
        same_size = rows.sizes == size
        groups[same_size] = start + duplicate_groups(rows.hashes[same_size], rows.labels[same_size])
        start = groups[same_size].max() + 1
    return groups


def _read(part: tuple[ShardInfo, Path]) -> tuple[NDArray[Any], ...]:
    """The columns of `_Rows` for one part file of a dataset."""
    info, path = part
    columns: list[tuple[NDArray[Any], ...]] = []
    for batch, images in read_batches(path):
        labels, names = batch["label"].to_pylist(), batch["name"].to_pylist()
        folds, pixels = batch["fold"].to_numpy(zero_copy_only=False), images
        if info.task == "grid":
            classes = dict(zip(info.alphabet, info.class_names, strict=True))
            labels = [classes[symbol] for label in labels for symbol in label]
            names = [name for grid in names for name in tile_names(grid)]
            folds, pixels = np.repeat(folds, TILES), split_grids(images).reshape(-1, *_tile_size(info))
        digests = [blake2b(image.tobytes(), digest_size=16).hexdigest() for image in pixels]
        columns.append(
            (
                np.full(len(pixels), info.dataset, object),
                np.array(labels, object),
                np.array(names, object),
                folds,
                np.full(len(pixels), pixels.shape[1] << 16 | pixels.shape[2]),
                hash_images(pixels),
                np.array(digests, object),
            )
        )
    return tuple(np.concatenate(column) for column in zip(*columns, strict=True))


def _tile_size(info: ShardInfo) -> tuple[int, int]:
    return info.height // ROWS, info.width // ROWS


def _members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each group with at least two rows, ordered by the first row."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))


def _groups(rows: _Rows, groups: NDArray[np.int64], dataset: str, folds: int) -> dict[str, dict[str, int]]:
    """By fold of a dataset: the number of groups of near-duplicates, single images included, and of squared sizes."""
    found = {}
    for fold in range(folds):
        sizes = np.unique(groups[(rows.datasets == dataset) & (rows.folds == fold)], return_counts=True)[1]
        found[str(fold)] = {"groups": len(sizes), "squares": int((sizes**2).sum())}
    return found


def _figures(rows: _Rows, chosen: NDArray[np.int64], folds: int, task: Task) -> dict[str, Any]:
    """The figures of one dataset, whose rows are `chosen`."""

    def count(labels: Iterable[str]) -> Counter[str]:
        """The number of each symbol of texts, or of each class of tiles."""
        return Counter("".join(labels)) if task == "text" else Counter(labels)

    labels = [str(label) for label in rows.labels[chosen]]
    counts = count(labels)
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    # By count, then by symbol, so that the order of equal counts is defined.
    ranking = sorted(counts, key=lambda symbol: (counts[symbol], symbol))
    per_fold = [count(rows.labels[chosen][rows.folds[chosen] == fold]) for fold in range(folds)]
    separator = "" if task == "text" else ", "
    unlearnable = {
        str(fold): separator.join(sorted(symbol for symbol in counts if per_fold[fold][symbol] == counts[symbol]))
        for fold in range(folds)
    }
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for label in labels:
        spellings[fold_case(label)].add(label)
    colliding = sorted(sorted(alike) for alike in spellings.values() if len(alike) > 1)
    return {
        "images": len(chosen),
        "folds": {str(fold): int((rows.folds[chosen] == fold).sum()) for fold in range(folds)},
        "distinct_labels": len(set(labels)),
        "balance": {
            # 1 if all symbols are equally frequent.
            "evenness": round(entropy / math.log(len(counts)), 6) if len(counts) > 1 else 1.0,
            "rarest": {"symbol": ranking[0], "count": counts[ranking[0]]},
            "commonest": {"symbol": ranking[-1], "count": counts[ranking[-1]]},
        },
        # Symbols that occur in one fold only. If it is held out, no training sample has them.
        "symbols_in_one_fold_only": {fold: symbols for fold, symbols in unlearnable.items() if symbols},
        # Files named after these labels overwrite each other on a file system that ignores case.
        "labels_alike_but_for_case": {
            "labels": sum(map(len, colliding)),
            "examples": colliding[:EXAMPLES],
        },
    }
