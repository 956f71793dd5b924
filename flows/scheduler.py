"""Dask's scheduler, at which workers wait for a run's stages, on one port of one interface.

`python -m flows.scheduler tls://HOST:8786`, in the clone of the machine whose runs want workers.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from distributed import Scheduler

from captchabench.errors import InputError
from flows import ROOT
from flows.address import INSECURE, check_address
from flows.connection import OnePort, security


class OnePortScheduler(OnePort, Scheduler):
    """Dask's scheduler without a dashboard."""


async def _serve(address: str) -> None:
    scheduler = OnePortScheduler(
        host=address,
        security=security(address, "scheduler"),
        # Dask imports from there, and its own choice in /tmp may be anybody's.
        local_directory=str(ROOT / ".dvc/tmp"),
        dashboard=False,
    )
    async with scheduler:
        print(f"the scheduler listens at {scheduler.address} (Ctrl-C ends it)", flush=True)
        await scheduler.finished()  # type: ignore[no-untyped-call]  # Dask's, without types


def main(words: Sequence[str] | None = None) -> None:
    """Bring runs and workers together, until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m flows.scheduler", description=main.__doc__)
    parser.add_argument("address", nargs="?", default="tcp://127.0.0.1:8786", help="where to listen: tls://HOST:8786")
    parser.add_argument("--insecure", action="store_true", help=INSECURE)
    given = parser.parse_args(words)
    check_address(given.address, given.insecure)
    try:
        asyncio.run(_serve(given.address))
    except RuntimeError as error:
        # What Dask says of a start that failed.
        if not isinstance(error.__cause__, OSError):
            raise
        raise InputError(
            f"{given.address}: {error.__cause__.strerror}; give an address of this machine and a free port"
        ) from None
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
