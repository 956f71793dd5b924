"""The recognisers: one file each. `RECOGNISERS[name]` imports that file alone."""

from pathlib import Path
from typing import Any

from captchabench.errors import InputError
from captchabench.models.base import Recogniser
from captchabench.models.saved import CONFIG_FILE, SavedConfig, check_files, read_config
from captchabench.registry import Registry
from captchabench.samples.shards import TextSpec

RECOGNISERS: Registry[type[Recogniser]] = Registry("model", __name__, apart=("base", "neural", "saved"))


def build_recogniser(name: str, spec: TextSpec, parameters: Any) -> Recogniser:
    """An untrained recogniser from its section of params.yaml. Raises InputError for a bad name or parameter."""
    return RECOGNISERS[name].from_parameters(spec, parameters, f"params.yaml: models.{name}")


def load_recogniser(folder: Path) -> Recogniser:
    """A trained recogniser from the folder it was saved to. Raises InputError if that is not one."""
    config = read_config(folder)
    check_files(folder, config)
    held = sum(path.stat().st_size for path in folder.iterdir())
    recogniser = blank_recogniser(config, str(folder / CONFIG_FILE), held)
    recogniser.load_weights(folder)
    return recogniser


def blank_recogniser(config: SavedConfig, where: str, held: int) -> Recogniser:
    """A recogniser that waits for the weights which `held` bytes hold. `where` prefixes messages. Raises InputError."""
    about = config.about
    if about.parameter_count > held:
        raise InputError(
            f"{where}: about.parameter_count: {about.parameter_count:,} numbers, but {held:,} bytes; train it anew"
        )
    return RECOGNISERS[about.model].blank(about, config.parameters, f"{where}: parameters")
