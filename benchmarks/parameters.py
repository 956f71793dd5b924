"""The models' parameters, as params.yaml has them or as `make full` would."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from captchabench.config import Params, build, merged, read_yaml
from captchabench.errors import InputError
from captchabench.registry import did_you_mean

_ROOT = Path(__file__).resolve().parent.parent


class Budget(StrEnum):
    """Whose parameters: params.yaml's, or those that params.full.yaml makes of them."""

    default = "default"
    full = "full"


def model_parameters(budget: Budget) -> dict[str, dict[str, Any]]:
    """The `models` section: model name to parameters."""
    models: dict[str, dict[str, Any]] = _sections(budget)["models"]
    return models


def cell_parameters(budget: Budget, model: str, dataset: str) -> dict[str, Any]:
    """Those of `model` on `dataset`: its own, and its difficulty in the steps."""
    return build(Params, _sections(budget), "params.yaml").of_model(model, dataset)


def _sections(budget: Budget) -> dict[str, Any]:
    sections = read_yaml(_ROOT / "params.yaml")
    return merged(sections, read_yaml(_ROOT / "params.full.yaml")) if budget is Budget.full else sections


def chosen_models(wanted: list[str] | None, offered: list[str]) -> list[str]:
    """The models to measure: all unless some are wanted. Raises InputError for one that is not offered."""
    for name in wanted or ():
        if name not in offered:
            raise InputError(f"--model {name}: not measured here; {did_you_mean(name, offered)}")
    return wanted or offered
