"""Runs DVC's stages through Prefect: order, parallelism, retries, schedule and alerts. DVC decides what is stale.

Prefect reads its settings when it is imported. So they are set here, before any module of this package imports it.
Variables that the environment already has are kept.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from captchabench.errors import InputError
from captchabench.streams import allow_any_text
from captchabench.user import name_user

ROOT = Path(__file__).parents[1]

# Prefect's database and logs stay in the project.
os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# If no server is running, Prefect would start one without authentication. `flows.server` starts one with it.
os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def bypass_proxies() -> None:
    """Reach this machine directly, whatever proxies the environment names: they would receive passwords, or fail."""
    names = {name.lower() for name in os.environ}
    if not any(name.endswith("_proxy") for name in names - {"no_proxy"}):
        return
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # A star excludes all hosts, but only if it is alone.
    if hosts.strip() != "*":
        hosts = ",".join(dict.fromkeys([*filter(None, hosts.replace(" ", "").split(",")), *_LOOPBACK]))
    os.environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), hosts)


# Clients in this process and in those that it starts read the variables when they connect.
bypass_proxies()
name_user()


def run_command(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its code. A user's mistake is one line and exit code 1."""
    allow_any_text()
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
