"""The DVC stages: one thin file each. They read params and inputs, call the library, write outputs."""

import sys
from collections.abc import Callable

from captchabench.errors import InputError


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command line's words; a user's mistake ends in one line and exit code 1."""
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
