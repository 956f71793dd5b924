"""Run the benchmark once, as a Prefect flow.

Prefect reads its settings when it is imported, and its threads keep them. So it is imported after they are set.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from flows import run_command
from flows.fixed import add_options, fix
from flows.server import server


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
        return _run(parameters)
    with server(0, for_people=False) as prefect_server:
        os.environ |= prefect_server.settings
        import flows.benchmark  # noqa: F401  # imported while the server starts: both take equally long

        prefect_server.wait()
        return _run(parameters)


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
