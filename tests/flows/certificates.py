"""Certificates for Dask, and the configuration that names them."""

from pathlib import Path

from distributed import Security


def settings(ca: Path, own: Path) -> dict[str, str]:
    """Dask's configuration. ca: folder of the trusted CA. own: folder of the certificate to present."""
    pair = {"cert": str(own / "cert.pem"), "key": str(own / "key.pem")}
    roles = {f"{role}.{part}": path for role in ("scheduler", "worker", "client") for part, path in pair.items()}
    return {f"distributed.comm.tls.{key}": path for key, path in {"ca-file": str(ca / "ca.pem"), **roles}.items()}


def environment(told: dict[str, str]) -> dict[str, str]:
    """A configuration as environment variables."""
    return {f"DASK_{key.upper().replace('.', '__').replace('-', '_')}": value for key, value in told.items()}


def make(folder: Path) -> Path:
    """Make a CA and a certificate signed by it, in a new folder."""
    folder.mkdir()
    made = Security.temporary()
    for name, text in (("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key)):
        (folder / f"{name}.pem").write_text(text)
    return folder
