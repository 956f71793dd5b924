"""The exception that users read."""

import pickle

from captchabench.errors import InputError


def test_a_message_is_one_line_without_control_characters() -> None:
    assert str(InputError("a\x1b[31m\nb.png: is damaged")) == "a\\x1b[31m\\x0ab.png: is damaged"


def test_a_message_survives_pickling() -> None:
    error = InputError("a\nb: is \\ damaged")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_very_long_message_is_cut_in_the_middle() -> None:
    output = str(InputError("a.json: holds " + "x" * 100_000 + "; fix it"))
    assert output.startswith("a.json: holds xxx")
    assert output.endswith("xxx; fix it")
    assert len(output) < 2000
