"""Schedulers and workers as processes, and the addresses that a process listens on."""

import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from flows import ROOT


def own_address() -> str:
    """An IPv4 address of this machine that others can reach, if it has one."""
    known = [one for name in psutil.net_if_addrs().values() for one in name if one.family is socket.AF_INET]
    return next((one.address for one in known if not one.address.startswith("127.")), "127.0.0.1")


def has(address: str) -> bool:
    """Whether `address` belongs to this machine."""
    return any(one.address == address for name in psutil.net_if_addrs().values() for one in name)


def scratch(number: int) -> set[Path]:
    """The folders of a process from which Dask imports modules, found by the lock files that it holds."""
    return {Path(one.path).parent for one in psutil.Process(number).open_files() if one.path.endswith(".dirlock")}


def listened(number: int) -> list[str]:
    """The addresses on which a process and its children accept connections."""
    process = psutil.Process(number)
    sockets = [one for each in (process, *process.children(recursive=True)) for one in each.net_connections("inet")]
    return [one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM]


@dataclass
class Command:
    """A module that runs as a process. Its log goes to a file: it would block on a pipe that nobody reads."""

    process: subprocess.Popen[str]
    log: IO[str]

    def said(self, wanted: str) -> str:
        """The first group of the expression `wanted`, which its next line of output must match."""
        assert self.process.stdout
        match = re.search(wanted, self.process.stdout.readline())
        assert match, self.errors()
        return match[1]

    def errors(self) -> str:
        """The text of its standard error so far."""
        self.log.seek(0)
        return self.log.read()


@contextmanager
def started(*words: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> Iterator[Command]:
    """Runs a command until the context ends."""
    command = [sys.executable, "-m", *words]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=log)
        try:
            yield Command(process, log)
        finally:
            process.kill()
            process.communicate()


@contextmanager
def scheduler(*words: str, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Command, str]]:
    """Runs a scheduler. Yields it and its address."""
    with started("flows.scheduler", *words, environment=environment) as command:
        yield command, command.said(r"listens at (\S+)")
