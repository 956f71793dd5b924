"""A dataset fetched from Kaggle, by the pinned handle and version.

Nothing that may quote the token leaves this module. The errors and the output of Kaggle's client are dropped, since
they can contain the request. Our own errors are raised outside of any `except`: even with `from None` they would carry
the client's error in `__context__`. No function stores the token in a local variable, which a traceback with local
variables would show.
"""

import os
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError

_HOW_TO_SET = (
    "put one in ~/.kaggle/access_token or ~/.kaggle/kaggle.json, or set KAGGLE_API_TOKEN or KAGGLE_USERNAME and "
    "KAGGLE_KEY"
)
_REFUSED = (401, 403)


class _Token(Enum):
    """Whether there is a token. Never the token itself."""

    HELD = auto()
    MISSING = auto()
    DAMAGED = auto()


def download(dataset: Dataset, downloads: Path) -> Path:
    """Download `dataset` and return its folder in the cache of Kaggle's client.

    The client is asked first: it returns datasets in its cache, and public ones, without a token. Raises InputError if
    it fails; if a token is what is missing, the error says so. The error quotes neither the token nor the client.
    """
    instead = f"or put its archive at {downloads / dataset.slug}.zip and set data.source to archive in params.yaml"
    handle = f"{dataset.handle}/versions/{dataset.kaggle_version}"
    # In its test environment the client prints its requests with all headers.
    with Path(os.devnull).open("w") as devnull, redirect_stdout(devnull):
        fetched = _fetch(handle)
        token = _Token.HELD if isinstance(fetched, Path) else _find_token()
    if isinstance(fetched, Path):
        return fetched
    if token is _Token.DAMAGED:
        raise InputError(f"the Kaggle token cannot be read; fetch a new one and {_HOW_TO_SET}; {instead}")
    why = f"Kaggle: {handle} cannot be fetched ({fetched.error})"
    if not fetched.refused:
        raise InputError(f"{why}; check the network, {instead}")
    if token is _Token.MISSING:
        raise InputError(f"{why}: no Kaggle token for '{dataset.key}': {_HOW_TO_SET}; {instead}")
    raise InputError(f"{why}; check the token, and accept the dataset's rules on its page, {instead}")


def _find_token() -> _Token:
    # Imported here, since it is slow and the other sources do not need it.
    from kagglehub.config import get_kaggle_credentials

    try:
        return _Token.MISSING if get_kaggle_credentials() is None else _Token.HELD
    # A damaged file can cause exceptions of nearly any type.
    except Exception:
        return _Token.DAMAGED


@dataclass(frozen=True)
class _Failure:
    """error: its class and HTTP status. refused: whether Kaggle asked for a token, or for another one."""

    error: str
    refused: bool


def _fetch(handle: str) -> Path | _Failure:
    """The folder of the downloaded dataset, or why there is none."""
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        name = type(error).__name__
        shown = name + (f" {status}" if isinstance(status, int) else "")
        return _Failure(shown, status in _REFUSED or name == "UnauthenticatedError")
