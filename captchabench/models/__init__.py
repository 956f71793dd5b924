"""The recognisers: one file each. `RECOGNISERS[name]` imports that file alone."""

from pathlib import Path
from typing import Any

from captchabench.data.shards import TextSpec
from captchabench.models.base import Recogniser
from captchabench.models.parts.about import CONFIG_FILE, About, read_config
from captchabench.registry import Registry

RECOGNISERS: Registry[type[Recogniser]] = Registry("model", __name__)


def build_recogniser(name: str, spec: TextSpec, parameters: Any) -> Recogniser:
    """An untrained recogniser from its section of params.yaml. Raises InputError for a bad name or parameter."""
    return RECOGNISERS[name].from_parameters(spec, parameters, f"params.yaml: models.{name}")


def load_recogniser(folder: Path) -> Recogniser:
    """A trained recogniser from the folder it was saved to. Raises InputError if that is not one."""
    config = read_config(folder)
    recogniser = blank_recogniser(config.about, config.parameters, f"{folder / CONFIG_FILE}: parameters")
    recogniser.load_weights(folder)
    return recogniser


def blank_recogniser(about: About, parameters: Any, where: str) -> Recogniser:
    """A recogniser that waits for its weights. `where` prefixes messages. Raises InputError for a bad parameter."""
    return RECOGNISERS[about.model].blank(about.spec, parameters, where)
