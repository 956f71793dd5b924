"""How ours meet at Dask's scheduler: by certificates, each on one port, and with one line where they do not."""

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
_SAME = "all machines need certificates of one CA (docs/machines.md)"


class OnePort:
    """Beside Dask's Worker or Scheduler: a server that has no HTTP port, which Dask opens even without a dashboard."""

    def start_http_server(self, *_: object, **__: object) -> None:
        """Start none."""


def security(address: str, role: Literal["scheduler", "worker", "client"]) -> Security:
    """The certificates that Dask's configuration names for a role, if the address wants any.

    Raises InputError if they are missing or unreadable, or if the configuration allows no address without them.
    """
    if parse(address).protocol == "tcp":
        if dask.config.get("distributed.comm.require-encryption"):
            raise InputError(f"{address}: Dask's configuration requires encryption; give a tls:// address")
        return Security()
    try:
        made = Security(require_encryption=True)
    except ValueError as error:
        raise InputError(f"Dask's configuration: {error}") from None
    try:
        usable = made.get_connection_args(role)["ssl_context"]
    except OSError as error:
        named = made.get_tls_config_for_role(role)
        files = ", ".join(str(named[key]) for key in ("ca_file", "cert", "key") if named[key])
        raise InputError(
            f"{files}: not usable as CA, certificate and key ({error.strerror or error}); docs/machines.md makes others"
        ) from None
    if not usable:
        raise InputError(
            f"{address}: Dask's configuration names no certificates (distributed.comm.tls: ca-file, {role}); "
            "docs/machines.md says how"
        )
    return made


def reach(address: str, role: Literal["worker", "client"]) -> Security:
    """The certificates for a role, once a scheduler has taken them. Raises InputError if none does.

    Dask itself would ask for ever, or wait for the answer of whatever else listens there.
    """
    own = security(address, role)
    # Some event loop may run in this thread.
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(asyncio.run, _meet(address, own.get_connection_args(role))).result()
        # Who speaks another protocol sends what reads as the length of a message, too long for any memory.
        except (OSError, ValueError, MemoryError) as error:
            raise InputError(_reason(address, error)) from None
    return own


async def _meet(address: str, arguments: dict[str, Any]) -> None:
    async with asyncio.timeout(_CONNECT_SECONDS):
        comm = await connect(address, timeout=_CONNECT_SECONDS, **arguments)
        await comm.close()


def _reason(address: str, error: Exception) -> str:
    """Why there is no connection, and what to do, in one line. error: what Dask raised."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{address}: its certificate is refused ({cause.verify_message}); {_SAME}"
        # Tornado's: plain text came before the handshake began.
        if isinstance(cause, ValueError) or getattr(cause, "reason", "") == "WRONG_VERSION_NUMBER":
            return f"{address}: no TLS is spoken there; start the scheduler with this address"
    if not isinstance(error, CommClosedError):
        return f"{address}: no scheduler answers; start it there: python -m flows.scheduler {address}"
    if parse(address).protocol == "tls":
        return f"{address}: it refuses this machine's certificate; {_SAME}"
    return f"{address}: it closes the connection; give its tls:// address if it has one"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
