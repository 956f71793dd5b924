"""Runs DVC's stages through Prefect: order, parallelism, retries, schedule and alerts. DVC decides what is stale.

Prefect reads its settings when it is imported. So they are set here, before any module of this package imports it.
Variables that the environment already has are kept.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from captchabench.errors import InputError

ROOT = Path(__file__).parents[1]

# Prefect's database and logs stay in the project.
os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# If no server is running, Prefect would start one without authentication. `flows.server` starts one with it.
os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")


def run_command(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its code. A user's mistake is one line and exit code 1."""
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
