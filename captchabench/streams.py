"""Standard output and error in any encoding."""

import codecs
import io
import sys

# What tables and messages hold that is not ASCII, as one character each, so that columns stay aligned.
_PLAIN = {"–": "-", "−": "-", "·": "-", "×": "x", "✗": "x"}
_HANDLER = "captchabench.plain"


def allow_any_text() -> None:
    """Print a similar character, or a question mark, for each that an output stream cannot encode, and no traceback.

    A terminal, a pipe or PYTHONIOENCODING may ask for ASCII or Latin-1. An error handler that the user chose is kept.
    """
    codecs.register_error(_HANDLER, _replaced)
    for stream in (sys.stdout, sys.stderr):
        # Programs may replace a stream by another object.
        if not isinstance(stream, io.TextIOWrapper):
            continue
        # In the C locale Python chooses surrogateescape. With UTF-8 it prints any file name as it is.
        is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
        if stream.errors == "strict" or (stream.errors == "surrogateescape" and not is_utf8):
            stream.reconfigure(errors=_HANDLER)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(symbol, "?") for symbol in error.object[error.start : error.end]), error.end
