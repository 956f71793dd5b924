"""Addresses of Dask's scheduler: parsing, safety checks and the local interface. Does not import Dask."""

import re
import socket
from ipaddress import ip_address
from typing import NamedTuple

from captchabench.errors import InputError

# Help text of the option --insecure of several commands.
INSECURE = "also allow tcp:// to other machines: anyone in that network can then run any program on all of them"
_ADDRESS = re.compile(r"(tcp|tls)://(?:\[([\da-fA-F:.]+)\]|([\w-]{1,63}(?:\.[\w-]{1,63})*)):(\d{1,5})", re.ASCII)


class Address(NamedTuple):
    """A parsed address. host: a name, or an IP address without brackets."""

    protocol: str
    host: str
    port: int


def parse(address: str) -> Address:
    """Parse tcp://HOST:PORT or tls://HOST:PORT. Raises InputError for anything else."""
    match = _ADDRESS.fullmatch(address)
    if not match or int(match[4]) > 65535:
        raise InputError(f"'{address}': not the address of a scheduler; give tls://HOST:8786, or tcp://127.0.0.1:8786")
    return Address(match[1], match[2] or match[3], int(match[4]))


def check_address(address: str, insecure: bool) -> None:
    """Check that no stranger can run programs here. Dask sends pickles, and loading a pickle can run any code.

    Raises InputError for an address without TLS, unless it is a loopback address or `insecure` is set.
    """
    protocol, host, _ = parse(address)
    if protocol == "tcp" and not insecure and not _is_loopback(host):
        raise InputError(
            f"{address}: without TLS anybody in that network can run programs here; "
            "give a tls:// address (see docs/machines.md), or --insecure to allow it"
        )


def local_interface(address: str) -> str:
    """The IP address of the local interface that reaches an address. Raises InputError if none does."""
    _, host, port = parse(address)
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # A datagram socket sends nothing here: it only chooses a route.
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise InputError(f"{address}: cannot be reached ({error.strerror}); check its name and the network") from None


def _is_loopback(host: str) -> bool:
    # No other name is resolved: its address could change between this check and its use.
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
