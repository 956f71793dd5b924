"""What a training is told: the `training` section of a deep model in params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from captchabench.config import Between, NotNegative, Positive


@dataclass(frozen=True)
class TrainingConfig:
    """The budget and the optimisers. A budget is in steps: it follows from how hard a dataset is, not from its size."""

    steps: Annotated[int, Between(1, 10_000_000)] = 3000
    batch_size: Annotated[int, Between(1, 100_000)] = 128
    learning_rate: Annotated[float, Between(1e-7, 10)] = 2e-3
    # Learning rate of Muon, which takes the weights of the hidden layers; 0 leaves all to AdamW.
    muon: Annotated[float, Between(0, 10)] = 0.0
    weight_decay: NotNegative = 0.01
    clip_norm: Annotated[float, Between(1e-3)] = 2.0
    schedule: Literal["one_cycle", "plateau"] = "one_cycle"
    augment: Annotated[float, Between(0, 3)] = 0.0
    # Pull of CTC's alignments to the diagonal; it fades to nothing over `guide_share` of the steps.
    guide: NotNegative = 0.0
    guide_share: Annotated[float, Between(0, 1)] = 0.3
    evaluations: Positive = 10
    # Arithmetic of forward and backward passes. auto: float32 on a CPU, bfloat16 on a GPU. Reading is always float32.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Evaluations without a better result after which training stops; 0 never stops early.
    patience: Annotated[int, Between(0)] = 0
    # Stop once validation is read without a mistake: saves time where a dataset is easy, costs annealing.
    stop_when_perfect: bool = False
