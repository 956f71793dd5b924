"""Who is who: requests of one client take turns with those of others."""

import ipaddress
from functools import lru_cache

# What one household or host is given of IPv6: its addresses are one client's.
_PREFIX = 64


@lru_cache(maxsize=4096)
def network_of(host: str) -> str | None:
    """The address that is one client's; None for this machine, whose users cannot be told apart by it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.is_loopback:
        return None
    if address.version == 6:
        return str(ipaddress.ip_network((address, _PREFIX), strict=False))
    return host


def client_of(address: tuple[str, int] | None) -> str:
    """A client by where its connection comes from: its network, or on this machine the connection itself."""
    if address is None:
        return ""
    host, port = address
    return network_of(host) or f"{host}:{port}"
