"""The host names that the demo accepts, the path under which a proxy serves it, and who can reach it."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from captchabench.errors import InputError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_PORT = re.compile(r":\d+$")
_NAME = r"(?:[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
_ALLOWED = re.compile(rf"(?:(?P<scheme>https?)://)?(?P<name>{_NAME})(?P<port>:\d{{1,5}})?")
_ROOT_PATH = re.compile(r"(?:/[\w.~@:+,=!$&'()*%-]+)+", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Names:
    """The host names of one demo.

    address: the one that it listens on. allowed: additional names. origins: the origins under which a proxy serves the
    demo, such as "https://demo.example".
    """

    address: str
    allowed: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback

    @property
    def shown(self) -> str:
        """The names, as shown to users."""
        any_address = ["any of its addresses"] if ipaddress.ip_address(self.address).is_unspecified else []
        return ", ".join(dict.fromkeys([*any_address, *self._own_names(), *sorted(self.allowed)]))

    @property
    def reach(self) -> str:
        """Who can reach it and by which names, in one line."""
        if self.loopback:
            proxy = ", and by everyone whom the proxy admits" if self.origins else ""
            return f"by users of this machine only{proxy}; names: {self.shown}"
        where = "an address of this machine" if ipaddress.ip_address(self.address).is_unspecified else self.address
        return f"by everyone who can reach {where}, without a password; names: {self.shown}"

    def include(self, host: str, server: tuple[str, int] | None) -> bool:
        """Whether the demo accepts the lower-case Host header `host`. server: the local address of the connection."""
        name = _PORT.sub("", host)
        if name in self._own_names() or name in self.allowed:
            return True
        # DNS rebinding needs a name, so addresses are safe.
        return not self.loopback and server is not None and name == _bracketed(server[0])

    def _own_names(self) -> tuple[str, ...]:
        address = ipaddress.ip_address(self.address)
        if address.is_loopback:
            return tuple(dict.fromkeys([_bracketed(self.address), *_LOOPBACK]))
        return _LOOPBACK if address.is_unspecified else (_bracketed(self.address),)


def names_of(address: str, allowed: Sequence[str]) -> Names:
    """The names of a demo that listens on `address`.

    allowed: host names, or origins with a scheme under which a proxy serves the demo. Raises InputError for a value
    that is neither.
    """
    names, origins = set(), set()
    for value in allowed:
        match = _ALLOWED.fullmatch(value.lower())
        if match is None or (match["port"] and not match["scheme"]):
            raise InputError(
                f"--allow-name {value}: is not a host name; "
                "give one such as demo.lan, or https://demo.example for a proxy"
            )
        names.add(match["name"])
        if scheme := match["scheme"]:
            port = "" if match["port"] == _DEFAULT_PORTS[scheme] else match["port"] or ""
            origins.add(f"{scheme}://{match['name']}{port}")
    return Names(address, frozenset(names), frozenset(origins))


def root_path_of(given: str) -> str:
    """The path given with --root-path, without a slash at its end. Raises InputError if it is not a path."""
    path = given.removesuffix("/")
    if path and not _ROOT_PATH.fullmatch(path):
        raise InputError(f"--root-path {given}: is not the path of an address; give one such as /services/demo")
    return path


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
