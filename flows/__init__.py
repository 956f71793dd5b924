"""Prefect over DVC: order, parallelism, retries, a schedule, and the alert. DVC alone decides what is stale.

Prefect reads its settings when it is imported, so they are given here, before any module of ours imports it.
What the environment already says is left alone.
"""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Everything that Prefect keeps stays in the project: its database, its logs.
os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# Where none is running Prefect would start a server that lets everybody in; `flows.server` has one that does not.
os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
