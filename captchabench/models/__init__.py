"""The recognisers: one file each. `RECOGNISERS[name]` imports that file alone."""

import os
from pathlib import Path
from typing import Any

from captchabench.errors import InputError
from captchabench.models.base import Recogniser
from captchabench.models.saved import CONFIG_FILE, About, SavedConfig, check_files, read_config
from captchabench.registry import Registry
from captchabench.samples.shards import TextSpec
from captchabench.storage.files import open_regular

RECOGNISERS: Registry[type[Recogniser]] = Registry("model", __name__, apart=("base", "neural", "saved"))

# Symbols of a text: twice those of the longest label here. hog_svc's time grows with the fourth power.
MOST_LENGTH = 20
# Of a model's files together: twice what the largest network that can be trained here takes.
MOST_BYTES = 1 << 30
# What a learned number takes in files, running means of it included, and what names and shapes take beside.
_BYTES_A_NUMBER, _BYTES_BESIDE = 8, 2 << 20
# Of a name in config.json, which each reading may repeat.
_MOST_NAME = 200


def build_recogniser(name: str, spec: TextSpec, parameters: Any) -> Recogniser:
    """An untrained recogniser from its section of params.yaml. Raises InputError for a bad name or parameter."""
    _check_lengths(spec, name)
    return RECOGNISERS[name].from_parameters(spec, parameters, f"params.yaml: models.{name}")


def load_recogniser(folder: Path) -> Recogniser:
    """A trained recogniser from the folder it was saved to. Raises InputError if that is not one."""
    config = read_saved(folder)
    sizes = {path.name: _size(path) for path in sorted(folder.iterdir()) if not path.is_dir()}
    if missing := sorted(config.files.keys() - sizes.keys()):
        raise InputError(f"{folder / missing[0]}: is missing; copy or train the model anew")
    held = sum(sizes.values())
    if held > MOST_BYTES:
        raise InputError(f"{folder}: holds {held:,} bytes, more than any model here; copy or train it anew")
    check_files(folder, config)
    recogniser = blank_recogniser(config, str(folder / CONFIG_FILE), held)
    recogniser.load_weights(folder)
    return recogniser


def read_saved(folder: Path) -> SavedConfig:
    """The config of the model saved in `folder`; no weight is read.

    Raises InputError if it is not one of ours, is damaged, or describes what no model here can be.
    """
    path = folder / CONFIG_FILE
    _size(path)
    config = read_config(folder)
    _check_about(config.about, str(path))
    return config


def blank_recogniser(config: SavedConfig, where: str, held: int) -> Recogniser:
    """A recogniser that waits for the weights which `held` bytes hold. `where` prefixes messages. Raises InputError."""
    about = config.about
    _check_about(about, where)
    if not about.parameter_count <= held <= _BYTES_A_NUMBER * about.parameter_count + _BYTES_BESIDE:
        raise InputError(
            f"{where}: about.parameter_count: {about.parameter_count:,} numbers, but {held:,} bytes; train it anew"
        )
    return RECOGNISERS[about.model].blank(about, config.parameters, f"{where}: parameters")


def _size(path: Path) -> int:
    """The bytes of a file of a model. Raises InputError where it is missing or no file."""
    try:
        with open_regular(path) as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder that `train` wrote") from None


def _check_about(about: About, where: str) -> None:
    _check_lengths(about.spec, f"{where}: about")
    for name in (about.dataset, about.source, about.pretraining, *about.class_names):
        if len(name) > _MOST_NAME:
            raise InputError(f"{where}: about: a name of {len(name):,} characters; at most {_MOST_NAME} can be shown")


def _check_lengths(spec: TextSpec, where: str) -> None:
    if not 1 <= spec.min_length <= spec.max_length <= MOST_LENGTH:
        raise InputError(
            f"{where}: texts of {spec.min_length} to {spec.max_length} symbols; recognisers read 1 to {MOST_LENGTH}"
        )
