"""Small budgets for every registered model, so that a new one needs no entry in the tests."""

import dataclasses
from typing import Any

from captchabench.config import load_params, merged
from captchabench.models import RECOGNISERS

# Enough for tests of the contract, which do not depend on accuracy.
_FEW = {"steps": 2, "batch_size": 8, "evaluations": 1}
# Running means of batch normalisation lag a few steps behind the weights, so the best of several evaluations counts.
_TO_OVERFIT = {
    "steps": 240,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "augment": 0.0,
    "evaluations": 12,
    "stop_when_perfect": True,
}


def few_steps(name: str) -> dict[str, Any]:
    """The model's parameters from params.yaml; if it has a `training` section, with a few training steps."""
    return _with_budget(name, _FEW)


def overfitting(name: str) -> dict[str, Any]:
    """The same with enough steps to overfit a few images."""
    return _with_budget(name, _TO_OVERFIT)


def _with_budget(name: str, budget: dict[str, Any]) -> dict[str, Any]:
    shipped = load_params().models.get(name, {})
    names = {field.name for field in dataclasses.fields(RECOGNISERS[name].config_class)}
    return merged(shipped, {"training": budget} if "training" in names else {})
