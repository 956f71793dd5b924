"""A user without a name, as in a container that runs under a number."""

import getpass
import pwd
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from captchabench.user import name_user

ROOT = Path(__file__).parents[1]
VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
# DVC asks for the name when it opens a repository.
CODE = """
import pwd
def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
import flows
import getpass
print(getpass.getuser())
"""


def unknown(number: int) -> NoReturn:
    raise KeyError(f"getpwuid(): uid not found: {number}")


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that it is restored.
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    name_user()
    assert getpass.getuser().startswith("user-")


def test_a_name_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    name_user()
    assert getpass.getuser() == "ada"


def test_flows_name_the_user_before_they_open_the_repository() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("user-")
