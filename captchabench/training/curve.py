"""The learning curve."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation during training. Losses are means per sample; a model without one leaves them None."""

    step: int
    epoch: float
    learning_rate: float | None
    train_loss: float | None
    validation_loss: float | None
    validation_exact: float
