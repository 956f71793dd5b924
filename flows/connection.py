"""Connections to Dask's scheduler: certificates, one port per server, and one-line errors."""

import asyncio
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import dask
from distributed import Security
from distributed.comm.core import CommClosedError, connect

from captchabench.errors import InputError
from flows.address import parse

_CONNECT_SECONDS = 15.0
_SAME_CA = "all machines need certificates of one CA (docs/machines.md)"


class OnePort:
    """Mixin for Dask's Worker and Scheduler without an HTTP port, which Dask opens even without a dashboard."""

    def start_http_server(self, *_: object, **__: object) -> None:
        """Do not start an HTTP server."""


def security(address: str, role: Literal["scheduler", "worker", "client"]) -> Security:
    """The certificates that Dask's configuration names for a role; none for a tcp:// address.

    Raises InputError if they are missing or unreadable, or if the address is tcp:// and the configuration requires
    encryption.
    """
    if parse(address).protocol == "tcp":
        if dask.config.get("distributed.comm.require-encryption"):
            raise InputError(f"{address}: Dask's configuration requires encryption; give a tls:// address")
        return Security()
    try:
        certificates = Security(require_encryption=True)
    except ValueError as error:
        raise InputError(f"Dask's configuration: {error}") from None
    try:
        context = certificates.get_connection_args(role)["ssl_context"]
    except OSError as error:
        config = certificates.get_tls_config_for_role(role)
        files = ", ".join(str(config[key]) for key in ("ca_file", "cert", "key") if config[key])
        raise InputError(
            f"{files}: not usable as CA, certificate and key ({error.strerror or error}); see docs/machines.md"
        ) from None
    if not context:
        raise InputError(
            f"{address}: Dask's configuration names no certificates (distributed.comm.tls: ca-file, {role}); "
            "see docs/machines.md"
        )
    return certificates


def accepted_certificates(address: str, role: Literal["worker", "client"]) -> Security:
    """The certificates for a role, after a scheduler has accepted them. Raises InputError if none does.

    Dask itself would retry forever, or wait forever for a reply from a server of another kind.
    """
    certificates = security(address, role)
    # In another thread, because an event loop may already run in this one.
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(asyncio.run, _try_connect(address, certificates.get_connection_args(role))).result()
        # MemoryError: the reply of another protocol is read as a message length that no memory can hold.
        except (OSError, ValueError, MemoryError) as error:
            raise InputError(_reason(address, error)) from None
    return certificates


async def _try_connect(address: str, arguments: dict[str, Any]) -> None:
    async with asyncio.timeout(_CONNECT_SECONDS):
        comm = await connect(address, timeout=_CONNECT_SECONDS, **arguments)
        await comm.close()


def _reason(address: str, error: Exception) -> str:
    """One line that says why there is no connection and what to do. error: raised by Dask."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{address}: its certificate is refused ({cause.verify_message}); {_SAME_CA}"
        # Tornado raises ValueError when plain text comes before the handshake.
        if isinstance(cause, ValueError) or getattr(cause, "reason", "") == "WRONG_VERSION_NUMBER":
            return f"{address}: it does not use TLS; start the scheduler with this address"
    if not isinstance(error, CommClosedError):
        return f"{address}: no scheduler answers; start it there: python -m flows.scheduler {address}"
    if parse(address).protocol == "tls":
        return f"{address}: it refuses this machine's certificate; {_SAME_CA}"
    return f"{address}: it closes the connection; give its tls:// address if it has one"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
