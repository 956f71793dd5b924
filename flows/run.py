"""Run the benchmark once, as a Prefect flow.

Prefect reads its settings when it is imported, and its threads keep them. So it is imported after they are set.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from captchabench.errors import InputError, first_line
from flows import run_command
from flows.fixed import add_options, fix
from flows.server import server

_PATIENCE_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark once: stale stages in parallel, then the comparison. Returns 0 if it completed."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=main.__doc__)
    parser.add_argument("--only", nargs="+", metavar="ITEM", help="run only the cells of a model, a dataset or both")
    parser.add_argument("--baseline", metavar="REV", help="compare with this commit")
    parser.add_argument("--margin", type=float, default=0.0, metavar="SHARE", help="loss of exact match to accept")
    add_options(parser)
    arguments = parser.parse_args(argv)
    fix(arguments)
    parameters = {"only": arguments.only, "baseline": arguments.baseline, "margin": arguments.margin}
    if "PREFECT_API_URL" in os.environ:
        _check_api()
        return _run(parameters)
    with server(0, for_people=False) as prefect_server:
        os.environ |= prefect_server.settings
        import flows.benchmark  # noqa: F401  # imported while the server starts: both take equally long

        prefect_server.wait()
        return _run(parameters)


def _check_api() -> None:
    """Raise InputError unless the Prefect server of PREFECT_API_URL answers."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(httpx_settings={"timeout": _PATIENCE_SECONDS}, sync_client=True) as client:
            client.read_flows(limit=1)
    # Prefect and its libraries raise exceptions of many types, and the address may be anything.
    except Exception as error:
        cause = error.__cause__ or error
        # An address may hold a password, which httpx would quote.
        if isinstance(cause, httpx.HTTPStatusError):
            reason = f"HTTP status {cause.response.status_code}"
        else:
            reason = first_line(cause)
        raise InputError(
            f"PREFECT_API_URL: no Prefect server answers there ({reason}); start it and check PREFECT_API_AUTH_STRING, "
            "or unset both: then the run starts a server of its own"
        ) from None


def _run(parameters: dict[str, Any]) -> int:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    from flows.benchmark import benchmark

    state = benchmark(**parameters, return_state=True)
    # Send logs and events that are still queued.
    APILogWorker.drain_all()
    EventsWorker.drain_all()
    print(f"{state.name}: {state.message}")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    run_command(main)
