"""The name of the user, for libraries that need one."""

import getpass
import os


def name_user() -> None:
    """Set LOGNAME for a user without a name, as in a container that runs under a number. DVC fails without one."""
    try:
        getpass.getuser()
    # KeyError before Python 3.13.
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
