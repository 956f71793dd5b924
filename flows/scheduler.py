"""Dask's scheduler, to which workers and runs connect. It listens on one port of one interface.

Start it in the clone whose runs use workers: `python -m flows.scheduler tls://HOST:8786`.
"""

import argparse
import asyncio
from collections.abc import Sequence

from distributed import Scheduler

from captchabench.errors import InputError
from flows import ROOT, run_command
from flows.address import INSECURE, check_address
from flows.connection import OnePort, security


class OnePortScheduler(OnePort, Scheduler):
    """Dask's scheduler without a dashboard."""


async def _serve(address: str) -> None:
    scheduler = OnePortScheduler(
        host=address,
        security=security(address, "scheduler"),
        # Dask imports modules from this folder. Its default is in /tmp, where other users can write.
        local_directory=str(ROOT / ".dvc/tmp"),
        dashboard=False,
    )
    async with scheduler:
        print(f"the scheduler listens at {scheduler.address} (Ctrl-C ends it)", flush=True)
        await scheduler.finished()  # type: ignore[no-untyped-call]  # not typed in Dask


def main(argv: Sequence[str] | None = None) -> None:
    """Connect runs with workers until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m flows.scheduler", description=main.__doc__)
    parser.add_argument("address", nargs="?", default="tcp://127.0.0.1:8786", help="where to listen: tls://HOST:8786")
    parser.add_argument("--insecure", action="store_true", help=INSECURE)
    arguments = parser.parse_args(argv)
    check_address(arguments.address, arguments.insecure)
    try:
        asyncio.run(_serve(arguments.address))
    except RuntimeError as error:
        # Dask wraps the error of a failed start.
        if not isinstance(error.__cause__, OSError):
            raise
        raise InputError(
            f"{arguments.address}: {error.__cause__.strerror}; give an address of this machine and a free port"
        ) from None
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    run_command(main)
