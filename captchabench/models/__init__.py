"""The recognisers: one file each. `RECOGNISERS[name]` imports that file alone."""

from pathlib import Path
from typing import Any

from captchabench.data.shards import TextSpec
from captchabench.models.base import Recogniser, read_spec
from captchabench.registry import Registry

RECOGNISERS: Registry[type[Recogniser]] = Registry("model", __name__)


def build_recogniser(name: str, spec: TextSpec, parameters: Any) -> Recogniser:
    """An untrained recogniser from its section of params.yaml. Raises InputError for a bad name or parameter."""
    return RECOGNISERS[name].from_parameters(spec, parameters, f"params.yaml: models.{name}")


def load_recogniser(folder: Path) -> Recogniser:
    """A trained recogniser from the folder it was saved to. Raises InputError if that is not one."""
    name, spec, parameters = read_spec(folder)
    recogniser = RECOGNISERS[name].from_parameters(spec, parameters, f"{folder / 'config.json'}: parameters")
    recogniser.load_weights(folder)
    return recogniser
