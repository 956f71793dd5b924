"""The address of Dask's scheduler: which ones are safe to use, and which of ours faces it. Imports no Dask."""

import re
import socket
from ipaddress import ip_address
from typing import NamedTuple

from captchabench.errors import InputError

# What the option --insecure means, wherever there is one.
INSECURE = "also tcp:// to other machines: whoever is in that network can run any program on all of them"
_ADDRESS = re.compile(r"(tcp|tls)://(?:\[([\da-fA-F:.]+)\]|([\w-]{1,63}(?:\.[\w-]{1,63})*)):(\d{1,5})", re.ASCII)


class Address(NamedTuple):
    """An address in its parts. host: a name, or a number without brackets."""

    protocol: str
    host: str
    port: int


def parse(address: str) -> Address:
    """The parts of tcp://HOST:PORT or tls://HOST:PORT. Raises InputError for anything else."""
    found = _ADDRESS.fullmatch(address)
    if not found or int(found[4]) > 65535:
        raise InputError(f"'{address}': no address of a scheduler; give tls://HOST:8786, or tcp://127.0.0.1:8786")
    return Address(found[1], found[2] or found[3], int(found[4]))


def check_address(address: str, insecure: bool) -> None:
    """See that no stranger can run programs here. Dask sends pickles: whoever can send one to a process is its master.

    Raises InputError without TLS, unless the address is of this machine alone or `insecure` says that it is meant.
    """
    protocol, host, _ = parse(address)
    if protocol == "tcp" and not insecure and not _is_loopback(host):
        raise InputError(
            f"{address}: without TLS anybody in that network can run programs here; "
            "give tls:// (docs/machines.md says how), or --insecure to allow it"
        )


def facing(address: str) -> str:
    """The number of the interface of this machine that reaches an address. Raises InputError if none does."""
    _, host, port = parse(address)
    try:
        family, kind, _, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # Sends nothing: it only chooses a route.
            probe.connect(there)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise InputError(
            f"{address}: no way to reach it ({error.strerror}); look at its name and the network"
        ) from None


def _is_loopback(host: str) -> bool:
    # No other name is looked up: what it means may change before it is used.
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
