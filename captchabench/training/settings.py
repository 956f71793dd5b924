"""The `training` section of a deep model in params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from captchabench.config import Between, NotNegative, Positive


@dataclass(frozen=True)
class TrainingConfig:
    """Budget, optimisers and schedule. The budget is in steps: it follows from a dataset's difficulty, not its size."""

    steps: Annotated[int, Between(1, 10_000_000)] = 3000
    batch_size: Annotated[int, Between(1, 100_000)] = 128
    learning_rate: Annotated[float, Between(1e-7, 10)] = 2e-3
    # Learning rate of Muon, which trains the weights of the hidden layers; 0: AdamW trains all weights.
    muon: Annotated[float, Between(0, 10)] = 0.0
    weight_decay: NotNegative = 0.01
    clip_norm: Annotated[float, Between(1e-3)] = 2.0
    schedule: Literal["one_cycle", "plateau"] = "one_cycle"
    # Strength of the random distortions; 0: none.
    augment: Annotated[float, Between(0, 3)] = 0.0
    # Mirror half of the images, or of the tiles of grids: for photographs, never for characters.
    mirror: bool = False
    # Penalty on CTC alignments far from the diagonal; it decreases to 0 over `guide_share` of the steps.
    guide: NotNegative = 0.0
    guide_share: Annotated[float, Between(0, 1)] = 0.3
    evaluations: Positive = 10
    # Arithmetic of forward and backward passes. auto: float32 on a CPU, bfloat16 on a GPU. Reading is always float32.
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    # Training stops after this many evaluations in a row without a better result; 0: never.
    patience: Annotated[int, Between(0)] = 0
    # Stop once validation is read without a mistake: saves time on an easy dataset, but skips the end of the schedule.
    stop_when_perfect: bool = False
