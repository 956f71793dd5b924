"""Output to streams that cannot hold every character."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from captchabench.streams import allow_any_text

ROOT = Path(__file__).parents[1]


def printed(encoding: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, capture_output=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    return done.stdout.decode(encoding.partition(":")[0])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "koi8-r", "utf-8"])
def test_the_leaderboard_is_a_table_in_any_encoding(encoding: str) -> None:
    said = printed(encoding, "captchabench", "leaderboard")
    dash = "–" if encoding == "utf-8" else "-"
    (row, *_) = [line for line in said.splitlines() if "crnn" in line]
    assert row.count("%") >= 3
    assert dash in row
    assert "?" not in row


@pytest.mark.parametrize(
    ("encoding", "errors", "kept"),
    [
        ("ascii", "strict", False),
        ("ascii", "surrogateescape", False),
        ("ascii", "backslashreplace", True),
        ("utf-8", "surrogateescape", True),
    ],
)
def test_only_a_handler_that_would_fail_is_replaced(
    encoding: str, errors: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    allow_any_text()
    assert (stream.errors == errors) is kept
    print("5 − 3 · 验", end="", flush=True)
    if not kept:
        assert stream.buffer.getvalue() == b"5 - 3 - ?"
