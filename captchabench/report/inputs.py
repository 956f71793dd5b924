"""The JSON files that the page reads: how each dataset was cleaned, and the audit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captchabench.datasets import stage_name
from captchabench.storage.tables import unreadable


@dataclass(frozen=True)
class Cleaning:
    """How one dataset was cleaned: images read, kept, and rejected by reason.

    symbols: how often each symbol occurs in the labels of the images kept.
    """

    dataset: str
    source: str
    images_read: int
    kept: int
    rejected: dict[str, int]
    symbols: dict[str, int]


def read_cleaning(folder: Path, datasets: Sequence[str]) -> list[Cleaning]:
    """How each of `datasets` was cleaned. Raises InputError if a file is missing or damaged."""
    result = []
    for dataset in datasets:
        path = folder / f"{dataset}.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            counts = {key: int(values[key]) for key in ("images_read", "kept")}
            rejected, symbols = dict(values["rejected"]), dict(values["symbols"])
            result.append(Cleaning(dataset, values["source"], **counts, rejected=rejected, symbols=symbols))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise unreadable(path, error, f"`dvc repro {stage_name('normalize', dataset)}`") from None
    return result


def read_audit(path: Path, datasets: Sequence[str]) -> dict[str, Any]:
    """The report of the audit. Raises InputError if the file is missing, damaged or lacks one of `datasets`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for key in ("duplicates", "leakage"):
            values[key]
        for dataset in datasets:
            values["datasets"][dataset]
        return dict(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, error, "`dvc repro audit`") from None
