"""Identifies the client of a request, for fair queueing and limits per client."""

import ipaddress
from functools import lru_cache

# The IPv6 prefix that one household or host is assigned: all addresses in it count as one client.
_IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def network_of(host: str) -> str | None:
    """The address, or IPv6 network, of one client; None for loopback, where all users share one address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.is_loopback:
        return None
    if address.version == 6:
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return host


def client_of(address: tuple[str, int] | None) -> str:
    """The client of a connection: its address or network, or for loopback the connection itself."""
    if address is None:
        return ""
    host, port = address
    return network_of(host) or f"{host}:{port}"
