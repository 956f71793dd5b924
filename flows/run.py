"""Run the benchmark once, as a Prefect flow.

Prefect reads its settings when it is imported, and its threads keep them: so it is imported when they are known.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from captchabench.errors import InputError
from flows.fixed import add_options, fix
from flows.server import server


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark once: what is stale, in parallel, then the comparison. 0 if it completed."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=main.__doc__)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="a model, a dataset or both: their cells alone")
    parser.add_argument("--baseline", metavar="REV", help="compare with this commit")
    parser.add_argument("--margin", type=float, default=0.0, metavar="SHARE", help="what a row may lose all the same")
    add_options(parser)
    given = parser.parse_args(words)
    fix(given)
    parameters = {"only": given.only, "baseline": given.baseline, "margin": given.margin}
    if "PREFECT_API_URL" in os.environ:
        return _run(parameters)
    with server(0, for_people=False) as own:
        os.environ |= own.settings
        import flows.benchmark  # noqa: F401  # takes as long as the server's start, so both at once

        own.wait()
        return _run(parameters)


def _run(parameters: dict[str, Any]) -> int:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    from flows.benchmark import benchmark

    state = benchmark(**parameters, return_state=True)
    # What is still on its way to the server.
    APILogWorker.drain_all()
    EventsWorker.drain_all()
    print(f"{state.name}: {state.message}")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
