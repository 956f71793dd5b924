"""The exception whose message is shown to the user."""

# Longest message, and longest quotation of another library's error, in characters.
_MAX_MESSAGE, _MAX_QUOTED = 1500, 400


class InputError(Exception):
    """Invalid input from the user: a file, a parameter or a name.

    The message is one line that names the file or key and says how to fix it. Entry points print it without a
    traceback and exit with code 1. Any other exception that escapes is a bug. Messages quote the input: terminal
    control characters and line breaks are escaped, and the middle of a very long message is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message, _MAX_MESSAGE))


def first_line(error: BaseException) -> str:
    """The first line of another library's error, made printable and shortened: it may quote a file of any length."""
    return visible((str(error) or type(error).__name__).splitlines()[0], _MAX_QUOTED)


def visible(text: str, max_length: int | None = None) -> str:
    """`text` with every unprintable character escaped, for example as \\x1b or \\u202e.

    Bytes of a file name that are not UTF-8 become \\xNN. max_length: in characters; the middle of a longer text is
    left out.
    """
    if not text.isprintable():
        text = "".join(symbol if symbol.isprintable() else _escape(ord(symbol)) for symbol in text)
    if max_length is not None and len(text) > max_length:
        text = f"{text[: max_length // 2]}...{text[-(max_length // 2) :]}"
    return text


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape kept
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
