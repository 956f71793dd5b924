"""What the demo goes by: the names that a browser may have typed in, and who can reach it."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from captchabench.errors import InputError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PORT = re.compile(r":\d+$")
_NAME = r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
_ALLOWED = re.compile(rf"(?:(?P<scheme>https?)://)?(?P<name>{_NAME})(?P<port>:\d{{1,5}})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Names:
    """Names of one demo.

    address: what it listens on. allowed: names given beside it. origins: those of pages that a proxy shows as its own,
    such as "https://demo.example".
    """

    address: str
    allowed: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @property
    def loopback(self) -> bool:
        """Whether this machine alone reaches it."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def shown(self) -> str:
        """The names, for people."""
        any_address = ["any of its addresses"] if ipaddress.ip_address(self.address).is_unspecified else []
        return ", ".join(dict.fromkeys([*any_address, *self._own(), *sorted(self.allowed)]))

    @property
    def reach(self) -> str:
        """Who can reach it and by which names, in one line."""
        if self.loopback:
            proxy = ", and by whoever a proxy lets through" if self.origins else ""
            return f"by users of this machine only{proxy}; names: {self.shown}"
        where = "an address of this machine" if ipaddress.ip_address(self.address).is_unspecified else self.address
        return f"by everybody who reaches {where}, without a password; names: {self.shown}"

    def include(self, host: str, server: tuple[str, int] | None) -> bool:
        """Whether a request may say `host`, in lower case. server: the address that the connection came in on."""
        name = _PORT.sub("", host)
        if name in self._own() or name in self.allowed:
            return True
        # An address cannot be made to lead elsewhere.
        return not self.loopback and server is not None and name == _bracketed(server[0])

    def _own(self) -> tuple[str, ...]:
        address = ipaddress.ip_address(self.address)
        if address.is_loopback:
            return tuple(dict.fromkeys([_bracketed(self.address), *_LOOPBACK]))
        return _LOOPBACK if address.is_unspecified else (_bracketed(self.address),)


def names_of(address: str, allowed: Sequence[str]) -> Names:
    """The names of a demo that listens on `address`.

    allowed: names, or origins with a scheme where a proxy shows the demo as its own. Raises InputError for what is
    neither.
    """
    names, origins = set(), set()
    for given in allowed:
        found = _ALLOWED.fullmatch(given.lower())
        if found is None or (found["port"] and not found["scheme"]):
            raise InputError(
                f"--allow-name {given}: is no name; give one such as demo.lan, or https://demo.example for a proxy"
            )
        names.add(found["name"])
        if scheme := found["scheme"]:
            port = "" if found["port"] == _DEFAULT_PORTS[scheme] else found["port"] or ""
            origins.add(f"{scheme}://{found['name']}{port}")
    return Names(address, frozenset(names), frozenset(origins))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
