"""The models' parameters: those of params.yaml or of `make full`."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from captchabench.config import Params, build, merged, read_yaml
from captchabench.errors import InputError
from captchabench.registry import did_you_mean

_ROOT = Path(__file__).resolve().parent.parent


class Budget(StrEnum):
    """default: params.yaml alone. full: params.yaml, overridden by params.full.yaml."""

    default = "default"
    full = "full"


def model_parameters(budget: Budget) -> dict[str, dict[str, Any]]:
    """The `models` section: model -> parameters."""
    models: dict[str, dict[str, Any]] = _sections(budget)["models"]
    return models


def cell_parameters(budget: Budget, model: str, dataset: str) -> dict[str, Any]:
    """The parameters of `model` on `dataset`, with the dataset's overrides and its difficulty applied."""
    return build(Params, _sections(budget), "params.yaml").of_model(model, dataset)


def _sections(budget: Budget) -> dict[str, Any]:
    sections = read_yaml(_ROOT / "params.yaml")
    return merged(sections, read_yaml(_ROOT / "params.full.yaml")) if budget is Budget.full else sections


def chosen_models(requested: list[str] | None, offered: list[str]) -> list[str]:
    """The models to measure: those requested, or all. Raises InputError for one that is not offered."""
    for name in requested or ():
        if name not in offered:
            raise InputError(f"--model {name}: not a model of this benchmark; {did_you_mean(name, offered)}")
    return requested or offered
