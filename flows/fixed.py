"""Options that are fixed when serving starts. No run that is started through Prefect's API can change them.

Whoever starts a run sets its parameters, tags and job variables. They do not set its environment: runs that
`flows.serve` starts inherit the environment of `flows.serve`.
"""

import argparse
import os
from dataclasses import dataclass

from flows import ROOT
from flows.address import INSECURE, check_address
from flows.commit import check_branch

_COMMIT_TO, _WORKERS = "CAPTCHABENCH_COMMIT_TO", "CAPTCHABENCH_WORKERS"


@dataclass(frozen=True)
class Fixed:
    """commit_to: the branch that results are committed to. workers: the address of Dask's scheduler."""

    commit_to: str | None
    workers: str | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command line."""
    parser.add_argument(
        "--workers", metavar="ADDRESS", help="run GPU stages on workers at the scheduler tls://HOST:PORT"
    )
    parser.add_argument("--insecure", action="store_true", help=INSECURE)
    parser.add_argument("--commit-to", metavar="BRANCH", help="commit the results to this branch")


def fix(arguments: argparse.Namespace) -> None:
    """Fix the options for this process and the processes that it starts.

    Raises InputError if results cannot go to the branch, or if the connection to the workers is not safe.
    """
    if arguments.commit_to:
        check_branch(ROOT, arguments.commit_to)
    if arguments.workers:
        check_address(arguments.workers, arguments.insecure)
    for name, value in ((_COMMIT_TO, arguments.commit_to), (_WORKERS, arguments.workers)):
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value


def fixed() -> Fixed:
    """The options that were fixed by this process or a parent."""
    return Fixed(os.environ.get(_COMMIT_TO), os.environ.get(_WORKERS))
