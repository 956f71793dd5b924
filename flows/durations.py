"""How long stages took the last time they ran: for the order of the next run, and to say how long it will take.

`seconds.json` beside this file is of a run of the committed parameters, for clones where nothing has run yet:
`python -m flows.durations` makes it that of the last run here.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from captchabench.storage.files import write_json

_KEPT = Path(".dvc/tmp/flow.seconds.json")
_COMMITTED = Path("flows/seconds.json")


def read_seconds(root: Path) -> dict[str, float]:
    """Seconds by stage, of this clone's runs; empty where nothing is known."""
    return _read(root / _KEPT)


def committed_seconds(root: Path) -> dict[str, float]:
    """Seconds by stage on some other machine, perhaps; empty where nothing is known."""
    return _read(root / _COMMITTED)


def keep_seconds(root: Path, new: Mapping[str, float]) -> None:
    """Remember `new`, rounded, beside what is known of other stages."""
    write_json(root / _KEPT, {**read_seconds(root), **{name: round(value, 1) for name, value in new.items()}})


def _read(path: Path) -> dict[str, float]:
    try:
        known = json.loads(path.read_bytes())
        return {str(name): float(seconds) for name, seconds in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


if __name__ == "__main__":
    write_json(_COMMITTED, read_seconds(Path()))
