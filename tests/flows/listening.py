"""Schedulers and workers as processes, and what a process listens on."""

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
    """Whether this machine has an address."""
    return any(one.address == address for name in psutil.net_if_addrs().values() for one in name)


def scratch(number: int) -> set[Path]:
    """Where a process has Dask's folders, from which it imports modules: those of the lock files that it holds."""
    return {Path(one.path).parent for one in psutil.Process(number).open_files() if one.path.endswith(".dirlock")}


def listened(number: int) -> list[str]:
    """Where a process and its children take connections, by the interface's address."""
    process = psutil.Process(number)
    sockets = [one for each in (process, *process.children(recursive=True)) for one in each.net_connections("inet")]
    return [one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM]


@dataclass
class Command:
    """A module of ours as a process. Its log goes to a file: a pipe that nobody reads would stop it."""

    process: subprocess.Popen[str]
    log: IO[str]

    def said(self, wanted: str) -> str:
        """The part in brackets of its next line."""
        assert self.process.stdout
        found = re.search(wanted, self.process.stdout.readline())
        assert found, self.errors()
        return found[1]

    def errors(self) -> str:
        """What it has written to standard error."""
        self.log.seek(0)
        return self.log.read()


@contextmanager
def started(*words: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> Iterator[Command]:
    """A command that ends with the context."""
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
    """A scheduler, and the address that it has."""
    with started("flows.scheduler", *words, environment=environment) as command:
        yield command, command.said(r"listens at (\S+)")
