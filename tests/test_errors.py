"""The exception that users read."""

import pickle

from captchabench.errors import InputError


def test_a_message_is_one_line_that_a_terminal_only_shows() -> None:
    assert str(InputError("a\x1b[31m\nb.png: is damaged")) == "a\\x1b[31m\\x0ab.png: is damaged"


def test_a_message_comes_whole_from_another_process() -> None:
    error = InputError("a\nb: is \\ damaged")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
