"""How long stages took the last time they ran: a hint for the order of the next run, and no more."""

import json
from collections.abc import Mapping
from pathlib import Path

from captchabench.files import write_json

_KEPT = Path(".dvc/tmp/flow.seconds.json")


def read_seconds(root: Path) -> dict[str, float]:
    """Seconds by stage; empty where nothing is known."""
    try:
        known = json.loads((root / _KEPT).read_bytes())
        return {str(name): float(seconds) for name, seconds in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def keep_seconds(root: Path, new: Mapping[str, float]) -> None:
    """Remember `new`, rounded, beside what is known of other stages."""
    write_json(root / _KEPT, {**read_seconds(root), **{name: round(value, 1) for name, value in new.items()}})
