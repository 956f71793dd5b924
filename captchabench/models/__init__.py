"""The recognisers: one file each. `RECOGNISERS[name]` imports only that file."""

import os
from pathlib import Path
from typing import Any

from captchabench.config import MAX_LENGTH
from captchabench.errors import InputError
from captchabench.models.base import Recogniser
from captchabench.models.saved import CONFIG_FILE, About, SavedConfig, check_files, read_config
from captchabench.registry import Registry
from captchabench.samples.shards import TextSpec
from captchabench.storage.files import open_regular

RECOGNISERS: Registry[type[Recogniser]] = Registry("model", __name__, exclude=("base", "neural", "saved"))

# Bytes of all files of a model: twice those of the largest network that can be trained here.
MAX_BYTES = 1 << 30
# Upper limits of the bytes in files: per learned number, including running means, and for names and shapes.
_BYTES_PER_NUMBER, _EXTRA_BYTES = 8, 2 << 20
# Characters of a name in config.json, which each reading may repeat.
_MAX_NAME = 200


def build_recogniser(name: str, spec: TextSpec, parameters: Any) -> Recogniser:
    """An untrained recogniser from its section of params.yaml. Raises InputError for a wrong name or parameter."""
    _check_lengths(spec, name)
    return RECOGNISERS[name].from_parameters(spec, parameters, f"params.yaml: models.{name}")


def load_recogniser(folder: Path, config: SavedConfig | None = None) -> Recogniser:
    """A trained recogniser from the folder it was saved to. Raises InputError if that is not one.

    config: what `read_saved` returned for this folder, if it was read already.
    """
    config = config or read_saved(folder)
    sizes = {path.name: _size(path) for path in sorted(folder.iterdir()) if not path.is_dir()}
    if missing := sorted(config.files.keys() - sizes.keys()):
        raise InputError(f"{folder / missing[0]}: is missing; copy the model again, or train it again")
    size = sum(sizes.values())
    if size > MAX_BYTES:
        raise InputError(f"{folder}: holds {size:,} bytes, more than any model here; copy or train it again")
    check_files(folder, config)
    recogniser = blank_recogniser(config, str(folder / CONFIG_FILE), size)
    recogniser.load_weights(folder)
    return recogniser


def read_saved(folder: Path) -> SavedConfig:
    """The config of the model saved in `folder`; no weight is read.

    Raises InputError if it cannot be read, is damaged, or describes what no model here can be.
    """
    config = read_config(folder)
    _check_about(config.about, str(folder / CONFIG_FILE))
    return config


def blank_recogniser(config: SavedConfig, where: str, size: int) -> Recogniser:
    """An untrained recogniser for weights of `size` bytes. where: prefix of error messages. Raises InputError."""
    about = config.about
    _check_about(about, where)
    if not about.parameter_count <= size <= _BYTES_PER_NUMBER * about.parameter_count + _EXTRA_BYTES:
        raise InputError(
            f"{where}: about.parameter_count: {about.parameter_count:,} numbers, but {size:,} bytes; train the model "
            "again"
        )
    return RECOGNISERS[about.model].blank(about, config.parameters, f"{where}: parameters")


def _size(path: Path) -> int:
    """The size in bytes of a file of a model. Raises InputError if it is missing or not a regular file."""
    try:
        with open_regular(path) as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder that `train` wrote") from None


def _check_about(about: About, where: str) -> None:
    _check_lengths(about.spec, f"{where}: about")
    for name in (about.dataset, about.source, about.pretraining, *about.class_names):
        if len(name) > _MAX_NAME:
            raise InputError(f"{where}: about: a name of {len(name):,} characters; use at most {_MAX_NAME}")


def _check_lengths(spec: TextSpec, where: str) -> None:
    if not 1 <= spec.min_length <= spec.max_length <= MAX_LENGTH:
        raise InputError(
            f"{where}: texts of {spec.min_length} to {spec.max_length} symbols; recognisers read 1 to {MAX_LENGTH}"
        )
