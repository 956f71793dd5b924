"""What is fixed when serving starts, by options: no run that Prefect's API is asked for can change it.

The parameters of a run, its tags and its job variables are those of whoever asks. The environment is not: the runs
that `flows.serve` starts get its own.
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
    """commit_to: the branch that results are committed to. workers: where Dask's scheduler listens."""

    commit_to: str | None
    workers: str | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that fix it."""
    parser.add_argument("--workers", metavar="ADDRESS", help="have the machines that wait at tls://HOST:PORT help")
    parser.add_argument("--insecure", action="store_true", help=INSECURE)
    parser.add_argument("--commit-to", metavar="BRANCH", help="commit the results to this branch")


def fix(given: argparse.Namespace) -> None:
    """Fix what the options say, for this process and those that it starts.

    Raises InputError if results cannot go to the branch, or the way to the workers is not safe.
    """
    if given.commit_to:
        check_branch(ROOT, given.commit_to)
    if given.workers:
        check_address(given.workers, given.insecure)
    for name, value in ((_COMMIT_TO, given.commit_to), (_WORKERS, given.workers)):
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value


def fixed() -> Fixed:
    """What was fixed, here or in the process that started this one."""
    return Fixed(os.environ.get(_COMMIT_TO), os.environ.get(_WORKERS))
