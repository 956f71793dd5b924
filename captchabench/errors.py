"""The one exception a user is meant to read."""

# Characters of a message, and of what it quotes of another library's.
_LONGEST, _LONGEST_QUOTED = 1500, 400


class InputError(Exception):
    """Something the user gave us is wrong: a file, a parameter, a name.

    The message is one line that names the file or key and says how to mend it. Entry points print it
    without a traceback and exit with code 1; anything else that escapes is a bug. Messages quote what we were given:
    what a terminal would obey, and line breaks, come out as escapes, and the middle of what is very long is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message, _LONGEST))


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line that can be read: it may quote a file at any length."""
    return visible((str(error) or type(error).__name__).splitlines()[0], _LONGEST_QUOTED)


def visible(text: str, most: int | None = None) -> str:
    """`text` with every character that cannot be seen, or is no text, as an escape such as \\x1b or \\u202e.

    Bytes that Python took from a name without understanding them become \\xNN. most: characters at most, the middle
    left out of a longer text.
    """
    if not text.isprintable():
        text = "".join(symbol if symbol.isprintable() else _escape(ord(symbol)) for symbol in text)
    if most is not None and len(text) > most:
        text = f"{text[: most // 2]}...{text[-(most // 2) :]}"
    return text


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
