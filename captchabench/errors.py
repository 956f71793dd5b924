"""The one exception a user is meant to read."""

from captchabench.visible import visible


class InputError(Exception):
    """Something the user gave us is wrong: a file, a parameter, a name.

    The message is one line that names the file or key and says how to mend it. Entry points print it
    without a traceback and exit with code 1; anything else that escapes is a bug. Messages quote what we were given:
    what a terminal would obey, and line breaks, come out as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
