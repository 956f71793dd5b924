"""How long stages took in their last run, used to order the next run and to estimate its time.

`seconds.json` in this folder is from a run with the committed parameters, for clones where nothing has run yet.
`python -m flows.durations` replaces it with the durations of this clone.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from captchabench.storage.files import write_json

_KEPT = Path(".dvc/tmp/flow.seconds.json")
_COMMITTED = Path("flows/seconds.json")


def read_seconds(root: Path) -> dict[str, float]:
    """Seconds by stage from runs in this clone; empty if there are none."""
    return _read(root / _KEPT)


def committed_seconds(root: Path) -> dict[str, float]:
    """Seconds by stage as committed, probably from another machine; empty if there are none."""
    return _read(root / _COMMITTED)


def keep_seconds(root: Path, new: Mapping[str, float]) -> None:
    """Store the rounded seconds of `new`, and keep those of other stages."""
    write_json(root / _KEPT, {**read_seconds(root), **{name: round(value, 1) for name, value in new.items()}})


def _read(path: Path) -> dict[str, float]:
    try:
        stored = json.loads(path.read_bytes())
        return {str(name): float(seconds) for name, seconds in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


if __name__ == "__main__":
    write_json(_COMMITTED, read_seconds(Path()))
