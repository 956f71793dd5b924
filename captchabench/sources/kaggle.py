"""A dataset fetched from Kaggle, by the pinned handle and version.

Nothing that may quote the token leaves this module. What Kaggle's client raises and prints is dropped, since it holds
the request. Our own errors are raised outside of any `except`: with `from None` alone they would still carry the
client's in `__context__`. And no function keeps the token in a local name, where a reporter of tracebacks would find
it.
"""

import os
from contextlib import redirect_stdout
from enum import Enum, auto
from pathlib import Path

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError

_PLACES = (
    "put one in ~/.kaggle/access_token or ~/.kaggle/kaggle.json, or set KAGGLE_API_TOKEN or KAGGLE_USERNAME and "
    "KAGGLE_KEY"
)


class _Token(Enum):
    """What there is of a token. Not the token."""

    FOUND = auto()
    MISSING = auto()
    DAMAGED = auto()


def download(dataset: Dataset, downloads: Path) -> Path:
    """The folder that Kaggle's client has put `dataset` into.

    Raises InputError where there is no token, or the client fails. Neither the token nor the client's words are in it.
    """
    instead = f"or put its archive at {downloads / dataset.slug}.zip and set data.source to archive in params.yaml"
    handle = f"{dataset.handle}/versions/{dataset.kaggle_version}"
    # Set to its test environment, the client prints its requests, headers and all.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        token = _look_for_token()
        fetched = _fetch(handle) if token is _Token.FOUND else ""
    if token is _Token.DAMAGED:
        raise InputError(f"the Kaggle token cannot be read; fetch a new one and {_PLACES}; {instead}")
    if token is _Token.MISSING:
        raise InputError(f"no Kaggle token for '{dataset.key}': {_PLACES}; {instead}")
    if isinstance(fetched, str):
        raise InputError(f"Kaggle: {handle} cannot be fetched ({fetched}); check token and network, {instead}")
    return fetched


def _look_for_token() -> _Token:
    # Slow to import, and of no use to the other sources.
    from kagglehub.config import get_kaggle_credentials

    try:
        return _Token.MISSING if get_kaggle_credentials() is None else _Token.FOUND
    # Whatever a damaged file makes of it.
    except Exception:
        return _Token.DAMAGED


def _fetch(handle: str) -> Path | str:
    """Where the client has put the dataset, or the kind of its failure: a class's name, and HTTP's status."""
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        return type(error).__name__ + (f" {status}" if isinstance(status, int) else "")
