"""Untrusted text as one printable line for the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.errors import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AB12 a\u00e9.png", "AB12 a\u00e9.png"),
        ("a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
        ("A\u202eB\u200b", "A\\u202eB\\u200b"),
        ("caf\udce9", "caf\\xe9"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_invisible_characters_become_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_the_middle_of_a_long_text_is_left_out() -> None:
    assert visible("a" * 10_000 + "z", 20) == "aaaaaaaaaa...aaaaaaaaaz"


@given(st.text(), st.integers(2, 50))
def test_any_text_becomes_one_printable_line(text: str, most: int) -> None:
    assert visible(text).isprintable()
    assert len(visible(text, most)) <= most + 3
    visible(text).encode()
