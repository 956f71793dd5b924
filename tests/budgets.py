"""Small budgets for every registered model, so that a new one needs no entry in the tests."""

import dataclasses
from typing import Any

from captchabench.config import load_params, merged
from captchabench.models import RECOGNISERS

# A few steps: whether a model keeps its contract does not depend on how well it reads.
_FEW = {"steps": 2, "batch_size": 8, "evaluations": 1}
# Running means of the normalisation lag some steps behind the weights: several evaluations, of which the best counts.
_TO_OVERFIT = {
    "steps": 240,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "augment": 0.0,
    "evaluations": 12,
    "stop_when_perfect": True,
}


def few_steps(name: str) -> dict[str, Any]:
    """The model's parameters from params.yaml, with a training of a few steps where it has a `training` section."""
    return _with_budget(name, _FEW)


def overfitting(name: str) -> dict[str, Any]:
    """The same with the steps that it takes to learn a few images by heart."""
    return _with_budget(name, _TO_OVERFIT)


def _with_budget(name: str, budget: dict[str, Any]) -> dict[str, Any]:
    shipped = load_params().models.get(name, {})
    names = {field.name for field in dataclasses.fields(RECOGNISERS[name].config_class)}
    return merged(shipped, {"training": budget} if "training" in names else {})
