"""What the page reads besides the leaderboard: the other tables, and how the data was cleaned and examined."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captchabench.datasets import stage_name
from captchabench.storage.tables import unreadable


@dataclass(frozen=True)
class Cleaning:
    """One dataset on its way to shards: images read, images kept, images rejected by reason, and how often
    each symbol occurs in the labels kept."""

    dataset: str
    source: str
    images_read: int
    kept: int
    rejected: dict[str, int]
    symbols: dict[str, int]


def read_cleaning(folder: Path, datasets: Sequence[str]) -> list[Cleaning]:
    """How each of `datasets` was cleaned. Raises InputError if a file is missing or damaged."""
    found = []
    for dataset in datasets:
        path = folder / f"{dataset}.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            counts = {key: int(values[key]) for key in ("images_read", "kept")}
            rejected, symbols = dict(values["rejected"]), dict(values["symbols"])
            found.append(Cleaning(dataset, values["source"], **counts, rejected=rejected, symbols=symbols))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise unreadable(path, error, f"`dvc repro {stage_name('normalize', dataset)}`") from None
    return found


def read_audit(path: Path, datasets: Sequence[str]) -> dict[str, Any]:
    """What the audit found. Raises InputError if the file is missing, damaged or lacks one of `datasets`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for key in ("duplicates", "leakage"):
            values[key]
        for dataset in datasets:
            values["datasets"][dataset]
        return dict(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, error, "`dvc repro audit`") from None
