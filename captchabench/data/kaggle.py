"""A dataset fetched from Kaggle, by the pinned handle and version."""

from pathlib import Path

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError


def download(dataset: Dataset, downloads: Path) -> Path:
    """The folder that Kaggle's client has put `dataset` into.

    Raises InputError where there is no token, or the client fails. Its words are left out of the message:
    they may quote the request, and with it the token.
    """
    instead = f"or put its archive at {downloads / dataset.slug}.zip and set data.source to archive in params.yaml"
    # Slow to import, and of no use to the other sources.
    import kagglehub
    from kagglehub.config import get_kaggle_credentials

    try:
        credentials = get_kaggle_credentials()
    except (ValueError, OSError):
        raise InputError(f"~/.kaggle/kaggle.json: is not a Kaggle token; fetch a new one, {instead}") from None
    if credentials is None:
        raise InputError(
            f"no Kaggle token for '{dataset.key}': put one in ~/.kaggle/kaggle.json, or set KAGGLE_API_TOKEN "
            f"or KAGGLE_USERNAME and KAGGLE_KEY; {instead}"
        )
    handle = f"{dataset.handle}/versions/{dataset.kaggle_version}"
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        kind = type(error).__name__ + (f" {status}" if status else "")
        raise InputError(f"Kaggle: {handle} cannot be fetched ({kind}); check token and network, {instead}") from None
